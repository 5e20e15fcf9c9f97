"""The lab: models, data, a training loop and measurements for the paper's experiments. Needs ``pip install -e '.[lab]'`` in a checkout."""
