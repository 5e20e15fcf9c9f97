"""What `lo.nn.estimate` counts, against formulas, against tensors that autograd keeps, and what it says."""

import json
from math import ceil
from types import SimpleNamespace

import pytest
import torch
from estimate_models import Decoder, kept, loss_of
from torch import nn

import linops as lo
from linops.nn.cutting import most_of
from linops.nn.hardware import HARDWARE, hardware, measured
from linops.nn.mesh import mesh_of

LLAMA = lo.nn.Transformer(4096, 32, 32, kv_heads=8, ff=14336, vocab=128256, seq=8192, gated=True)
SMALL = lo.nn.Transformer(64, 2, 4, ff=256, vocab=96, seq=32)
FAMILIES = ("dense", "btt:rank=1", "monarch", "low_rank", "block_diag", "low_rank_block", "low_rank_sparse")


def test_llama_has_its_parameters_and_flops():
    found = lo.nn.estimate(LLAMA, 8, 2)
    assert found.num_params == 8_030_261_248  # as published
    tokens, attention = 2 * 8192, 2 * 8192 * 4096 * 32
    assert found.forward_flops == tokens * (2 * (found.num_params - 128256 * 4096 - 65 * 4096) + attention)
    assert found.backward_flops == 2 * found.forward_flops
    again = lo.nn.estimate(LLAMA, 8, 2, checkpointing=1)
    head = 2 * tokens * 128256 * 4096
    assert again.backward_flops == 3 * found.forward_flops - head


def test_memory_and_bytes_are_those_of_the_formulas():
    n, p = 8_030_261_248, 64
    found = lo.nn.estimate(LLAMA, p, 1)
    memory, sent = found.memory, found.sent["data"]
    assert memory.parameters == memory.gradients == memory.optimizer / 2 == 4 * n / p
    assert sent.forward == {"all_gather": round((p - 1) / p * n * 2)}
    assert sent == {"all_gather": 2 * sent.forward["all_gather"], "reduce_scatter": round((p - 1) / p * n * 4)}
    padded = lo.nn.estimate(LLAMA, 4096, 1).memory.parameters - 4 * n / 4096
    assert padded == 2 * 4 * 4096 * (32 - 128256 / 4096)  # rows of the embedding and the head
    whole = lo.nn.estimate(LLAMA, 8, 1, engine="ddp", precision="bfloat16", optimizer="momentum")
    assert whole.sent["data"] == {"all_reduce": round(2 * 7 / 8 * n * 2)}
    assert whole.memory.parameters == whole.memory.optimizer == 2 * n
    assert lo.nn.estimate(LLAMA, 1, 1, optimizer="sgd").memory.optimizer == 0
    assert lo.nn.estimate(LLAMA, 1).bytes_sent == 0


def test_muon_keeps_one_number_of_a_matrix_and_two_of_the_rest():
    matrices = 4 * 64 * 64 * 2 + 2 * 64 * 256 * 2 + 96 * 64
    found = lo.nn.estimate(SMALL, 1, optimizer="muon", precision="float32")
    assert found.memory.optimizer == 4 * (matrices + 2 * (found.num_params - matrices))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("gated", [False, True], ids=("gpt", "llama"))
def test_activations_are_the_tensors_that_autograd_keeps(family, gated):
    shapes = lo.nn.Transformer(64, 2, 4, kv_heads=2 if gated else None, ff=160, vocab=96, seq=32, gated=gated)
    model, tokens = Decoder(shapes), torch.zeros(3, 32, dtype=torch.int64)
    if family != "dense":
        lo.nn.replace_linear_(model, family, exclude="head")
    found = lo.nn.estimate(shapes, 1, 3, families=[family], precision="float32")[family]
    assert found.num_params == sum(one.numel() for one in model.parameters())
    counted = kept(model, lambda: loss_of(model, tokens))
    if gated:  # on a CPU, the five norms keep what they have normalised too
        counted -= 4 * tokens.numel() * 5 * 64
    assert found.memory.activations == pytest.approx(counted, rel=0.01)
    if "sparse" in family:  # which are traced as they run where programs are transformed, with more numbers kept
        return
    traced = lo.nn.estimate(model, 1, 3, precision="float32", example=tokens[:1])
    assert traced.memory.activations == kept(model, lambda: model(tokens))
    assert traced.forward_flops == found.forward_flops
    assert traced.num_params == found.num_params


def test_checkpointing_keeps_inputs_and_one_block():
    none, every, second = (lo.nn.estimate(LLAMA, 8, 1, checkpointing=often).memory for often in (0, 1, 2))
    outside = 8192 * (4096 + 4096) * 2 + 8192 * 128256 * 4  # the last norm, the head's operand, the loss
    block = (none.activations - outside) / 32
    assert every.activations == pytest.approx(outside + block + 32 * 8192 * 4096 * 2)
    assert second.activations == pytest.approx(outside + 17 * block + 16 * 8192 * 4096 * 2)


def test_a_model_is_divided_as_communication_says():
    T = 2 * 32
    for family in ("dense", "btt:rank=1", "low_rank:rank=8"):
        found = lo.nn.estimate(SMALL, {"data": 2, "model": 4}, 2, families=[family], precision="float32")[family]
        sent = 2 * round(2 * 3 / 4 * 64 * T * 4) // 2  # the embedding's rows
        layers = [(64, 64, "colwise")] * 3 + [(64, 64, "rowwise"), (256, 64, "colwise"), (64, 256, "rowwise")]
        make = lo.families.text.parse(family)
        for m, n, style in layers * 2:
            sent += lo.nn.communication(make(m, n), 4, T, style=style).total
        sent += lo.nn.communication(lo.dense(96, 64), 4, T, style="colwise").total
        assert found.sent["model"].total == pytest.approx(sent, abs=32)
        one = lo.nn.estimate(SMALL, 1, 2, families=[family], precision="float32")[family]
        assert found.flops == one.flops / 4
        assert not found.whole


def test_what_cannot_be_divided_is_whole_and_said_so():
    found = lo.nn.estimate(lo.nn.Transformer(64, 2, 4, vocab=97), {"data": 1, "model": 8}, 1)
    assert found.whole == ("embed", "layers.attention", "head", "loss")
    assert "not divided, but held and run whole by all 8 ranks: embed, layers.attention" in str(found)
    dense = lo.nn.estimate([(64, 64)], {"model": 2}, styles={"0": "colwise"})
    assert dense.memory.parameters == 4 * 64 * 64 / 2
    whole = lo.nn.estimate(nn.Linear(64, 64), {"model": 2})
    assert whole.whole
    assert whole.memory.parameters == 4 * (64 * 64 + 64)


def test_leaves_with_fewer_blocks_than_ranks():
    assert [most_of((4, 64, 6), p) for p in (1, 2, 8, 1000)] == [1536, 768, 192, 384]
    assert most_of((), 4) == 1
    assert (
        lo.nn.estimate([lo.monarch(64, 64, blocks=4)], 8, precision="float32").memory.parameters == 4 * 2 * 64 * 16 / 8
    )
    odd = lo.nn.estimate([(7, 3)], 4, precision="float32").memory.parameters
    assert odd == 4 * 3 * ceil(7 / 4)


def test_links():
    h100 = hardware("h100")
    reach = h100.reach
    assert h100.sending(8, 1, "all_reduce") == reach * 450e9
    assert h100.sending(16, 1, "all_gather") == reach * 400e9  # eight network cards of a node
    assert h100.sending(16, 8, "all_gather") == reach * 50e9
    assert h100.sending(16, 1, "all_to_all") == reach * 50e9
    near, far = (lo.nn.estimate(LLAMA, devices, engine="ddp").link_seconds for devices in (8, 16))
    assert far > near


def test_time_is_a_roofline():
    found = lo.nn.estimate([(4096, 4096)], 1, 8192, precision="bfloat16", optimizer="sgd")
    h100, work = hardware("h100"), 3 * 2 * 4096 * 4096 * 8192
    update = 3 * 2 * 4096 * 4096 / (h100.reach * h100.bandwidth)
    assert found.compute_seconds == pytest.approx(work / (h100.efficiency * 989e12) + update)
    one = lo.nn.estimate([(4096, 4096)], 1, 1, precision="bfloat16", optimizer="sgd")  # by memory
    moved = 2 * (4096 * 4096 + 8192) * 2 + 2 * (4096 * 4096 + 8192)
    assert one.compute_seconds == pytest.approx((moved + 3 * 2 * 4096 * 4096) / (h100.reach * h100.bandwidth), rel=1e-3)
    both = lo.nn.estimate(LLAMA, 64, engine="ddp")
    assert both.seconds == (max(both.compute_seconds, both.link_seconds), both.compute_seconds + both.link_seconds)
    low, high = both.tokens_per_second
    assert (low, high) == (8192 / both.seconds[1], 8192 / both.seconds[0])


def test_published_throughput_is_near_what_is_estimated():
    """What torchtitan has published in 2024, of Llama 3 8B on H100s of 96 GB and 2.4 TB/s, and on A100s."""
    h100 = hardware("h100")
    titan = lo.nn.Hardware("H100 96 GB", h100.flops, 96e9, 2.4e12, h100.link, h100.node, h100.network)
    for devices, batch, machine, published in ((8, 2, titan, 6667), (128, 2, titan, 6514), (64, 1, "a100", 2973)):
        low, high = lo.nn.estimate(LLAMA, devices, batch, machine, checkpointing=2).tokens_per_second
        assert 0.9 * published < low < high < 1.1 * published


def test_side_by_side():
    found = lo.nn.estimate(SMALL, 4, families=["dense", "btt:rank=1", lo.monarch])
    assert list(found) == ["dense", "btt:rank=1", "monarch"]
    assert found["dense"] == lo.nn.estimate(SMALL, 4)
    head = lo.nn.estimate(SMALL, 4, families=["btt:rank=1"], exclude=None)["btt:rank=1"]
    assert found["dense"].num_params > found["btt:rank=1"].num_params > head.num_params
    mlp = lo.nn.estimate(SMALL, 4, families=["monarch"], where=["*.up", "*.down"])["monarch"]
    assert found["monarch"].num_params < mlp.num_params < found["dense"].num_params
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    with torch.device("meta"):
        bare = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    one, other = (lo.nn.estimate(each, 2, 8, families=["dense", "low_rank"]) for each in (model, bare))
    assert {name: each.to_dict() for name, each in one.items()} == {
        name: each.to_dict() for name, each in other.items()
    }
    assert isinstance(model[0], nn.Linear)


def test_text_fits_a_terminal():
    for devices in (1, 4096):
        found = lo.nn.estimate(
            LLAMA, {"data": devices, "model": 8}, 1, families=["dense", "monarch", "low_rank:rank=512"]
        )
        for text in (str(found), *map(str, found.values())):
            assert max(map(len, text.splitlines())) <= 80
            assert "estimate" in text
    assert "does not fit" in str(lo.nn.estimate(LLAMA, 1, 2))
    assert " *" in str(lo.nn.estimate(LLAMA, 1, 2, families=["dense"]))


def test_meshes():
    assert mesh_of(SimpleNamespace(shape={"data": 2, "model": 4})) == {"data": 2, "model": 4}  # as of JAX
    torchs = SimpleNamespace(mesh_dim_names=("dp_replicate", "dp_shard", "tp"), shape=(2, 3, 4))
    assert mesh_of(torchs) == {"data": 6, "model": 4}
    for wrong, error, words in [
        ({"pipe": 2}, ValueError, "mesh axis 'pipe': expected data or model"),
        (0, ValueError, "a whole number of devices from 1"),
        ({"data": 2.5}, ValueError, "got 2.5"),
        ("8", TypeError, "mesh '8': expected a number of devices"),
    ]:
        with pytest.raises(error, match=words):
            mesh_of(wrong)


def test_configs_of_hugging_face(tmp_path):
    llama = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
    llama |= {"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "n_inner": None}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(llama | {"max_position_embeddings": 131072}))
    assert lo.nn.Transformer.from_config(path, seq=8192) == LLAMA
    assert lo.nn.estimate(str(path), 1).tokens == 131072
    gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024}
    assert lo.nn.estimate(gpt2, 1).num_params == 124_439_808  # as published
    for change, words in [
        ({"model_type": "mamba"}, "model_type 'mamba'; expected one of llama"),
        ({"hidden_size": None}, "no d_model; expected one of hidden_size"),
        ({"num_attention_heads": 33}, "33 heads do not divide d_model 4096"),
        ({"num_key_value_heads": 5}, "5 kv_heads do not divide 32 heads"),
        ({"vocab_size": -1}, "vocab must be a whole number of at least 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            lo.nn.Transformer.from_config(llama | change)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"is no config\.json: expected an object"):
        lo.nn.Transformer.from_config(path)


def test_hardware_of_a_file(tmp_path):
    text = "flops = {bfloat16 = 2e14}\nmemory = 48e9\nbandwidth = 8e11\nlink = 3e10\nnode = 4\nnetwork = 2e10\n"
    path = tmp_path / "mine.toml"
    path.write_text(text)
    found = hardware(path)
    assert (found.name, found.memory, found.node) == ("mine", 48e9, 4)
    assert lo.nn.estimate(SMALL, 1, hardware=str(path)).hardware == found
    for change, words in [
        (("memory = 48e9\n", ""), "has no memory"),
        (("node", "nodes"), "no number 'nodes'"),
        (("48e9", "-1"), "memory must be a positive number"),
        (("node = 4", "node = 4.5"), "node must be a whole number"),
        (("bfloat16", "fp8"), "flops of 'fp8'"),
        (("= 2e10", "="), "cannot be read"),
        (("flops = {bfloat16 = 2e14}", "flops = 1"), "one of flops"),
        (("link", "reach = 2\nlink"), "a share of at most 1"),
    ]:
        path.write_text(text.replace(*change))
        with pytest.raises(ValueError, match=words):
            hardware(path)
    with pytest.raises(ValueError, match="has no tf32; it has bfloat16, float32"):
        lo.nn.estimate(SMALL, 1, hardware="tpu-v5p", precision="tf32")
    for known in HARDWARE.values():
        assert known.sources


def test_this_machine_is_measured():
    found = measured()
    assert 1e8 < found.flops["float32"] < 1e14
    assert 1e8 < found.bandwidth < 1e13
    assert found.memory > 1e8


def test_errors():
    for options, words in [
        ({"engine": "zero"}, "engine='zero'.: expected one of fsdp, ddp"),
        ({"optimizer": "lion"}, "expected one of sgd, momentum, adamw, muon"),
        ({"precision": "fp8"}, "expected one of mixed"),
        ({"batch": 0}, "batch=0.: expected a whole number of at least 1"),
        ({"checkpointing": -1}, "a whole number of at least 0"),
        ({"hardware": "h900"}, "hardware 'h900': expected one of a100"),
        ({"families": []}, "expected one at least"),
        ({"families": ["fourier"]}, "no family 'fourier'"),
        ({"families": ["btt"], "where": "*.none"}, "no layer to be replaced is selected"),
        ({"styles": {"*": "columns"}}, "style 'columns'; expected one of whole"),
        ({"example": torch.zeros(1)}, "only for a PyTorch model"),
    ]:
        with pytest.raises(ValueError, match=words):
            lo.nn.estimate(SMALL, 1, **options)
    with pytest.raises(TypeError, match=r"estimate\(object\): expected lo.nn.Transformer"):
        lo.nn.estimate(object(), 1)
    with pytest.raises(TypeError, match=r"estimate\(families='btt'\): expected a list of families"):
        lo.nn.estimate([(64, 64)], 1, families="btt")
    with pytest.raises(TypeError, match="layer '0': expected an operator"):
        lo.nn.estimate([3], 1)
    with pytest.raises(ValueError, match="a tensor whose first axis is that of examples"):
        lo.nn.estimate(nn.Linear(2, 2), 1, example=torch.tensor(1.0))
