"""The lab: models, data, a training loop and measurements for the paper's experiments.

It needs ``pip install -e '.[lab]'`` in a checkout.
"""
