"""Converts tiny random models of several libraries and compares what they compute before and after.

    python tests/check_hub.py target/release/depickle [FOLDER]

needs torch, transformers, diffusers and peft; FOLDER keeps the models. Each model is saved as the pickles that its library
wrote before it wrote safetensors: one file, or shards with an index. depickle converts the folder, the library loads the
result, and every output must be the same to the bit. Nothing here is part of `cargo test`.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import torch

PROGRAM = Path(sys.argv[1]).resolve()


def split(state: dict, most: int) -> list[dict]:
    """Shards as transformers 4 made them: tensors that share a storage stay together."""
    shards, size, blocks = [OrderedDict()], 0, {}
    for name, tensor in state.items():
        block = blocks.get(tensor.untyped_storage().data_ptr())
        if block is not None:
            shards[block][name] = tensor
            continue
        bytes_ = tensor.numel() * tensor.element_size()
        if size and size + bytes_ > most:
            shards.append(OrderedDict())
            size = 0
        shards[-1][name] = tensor
        size += bytes_
        blocks[tensor.untyped_storage().data_ptr()] = len(shards) - 1
    return shards


def save_pickled(state: dict, folder: Path, stem: str, most: int | None, variant: str = "") -> None:
    """`safe_serialization=False` of transformers 4, with which transformers 5 has done away."""
    folder.mkdir(parents=True, exist_ok=True)
    dot = f".{variant}" if variant else ""
    if most is None:
        torch.save(state, folder / f"{stem}{dot}.bin")
        return
    shards = split(state, most)
    names = [f"{stem}{dot}-{i + 1:05d}-of-{len(shards):05d}.bin" for i in range(len(shards))]
    for name, shard in zip(names, shards):
        torch.save(shard, folder / name)
    weight_map = {name: file for file, shard in zip(names, shards) for name in shard}
    total = sum(t.numel() * t.element_size() for t in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    path = folder / f"{stem}.bin.index{dot}.json"
    path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def convert(source: Path, *flags: str) -> Path:
    target = source.with_name(source.name + "-converted")
    shutil.rmtree(target, ignore_errors=True)
    done = subprocess.run([PROGRAM, "convert", source, "-o", target, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verified = subprocess.run([PROGRAM, "verify", target], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stderr
    pickles = [file for file in target.rglob("*") if re.search(r"\.(bin|pt|pth|pkl|py)$", file.name)]
    assert not pickles, pickles
    return target


def same(name: str, one, other) -> None:
    assert set(one) == set(other), (name, set(one) ^ set(other))
    for key, value in one.items():
        assert value.dtype == other[key].dtype and torch.equal(value, other[key]), (name, key)


def transformers_models():
    import transformers as t

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return {
        "gpt2": (t.GPT2LMHeadModel, t.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=96)),
        "bert": (t.BertForMaskedLM, t.BertConfig(vocab_size=96, **small)),
        "t5": (t.T5ForConditionalGeneration, t.T5Config(d_model=32, d_ff=48, num_layers=2, num_heads=4, d_kv=8, vocab_size=96)),
        "llama": (t.LlamaForCausalLM, t.LlamaConfig(vocab_size=96, num_key_value_heads=2, **small)),
        "llama-tied": (t.LlamaForCausalLM, t.LlamaConfig(vocab_size=96, tie_word_embeddings=True, **small)),
        "opt": (t.OPTForCausalLM, t.OPTConfig(vocab_size=96, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32, max_position_embeddings=64)),
        "bart": (t.BartForConditionalGeneration, t.BartConfig(vocab_size=96, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64)),
        "vit": (t.ViTModel, t.ViTConfig(image_size=16, patch_size=8, **small)),
        "whisper": (t.WhisperForConditionalGeneration, t.WhisperConfig(vocab_size=96, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=8, max_source_positions=16, max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)),
    }


def inputs_of(name: str) -> dict:
    torch.manual_seed(1)
    tokens = torch.randint(3, 90, (2, 7))
    match name:
        case "vit":
            return {"pixel_values": torch.randn(2, 3, 16, 16)}
        case "whisper":
            return {"input_features": torch.randn(2, 8, 32), "decoder_input_ids": tokens}
        case "t5" | "bart":
            return {"input_ids": tokens, "decoder_input_ids": tokens}
        case _:
            return {"input_ids": tokens}


def check_transformers(root: Path) -> int:
    checked = 0
    for name, (cls, config) in transformers_models().items():
        torch.manual_seed(0)
        model = cls(config).eval()
        inputs = inputs_of(name)
        with torch.no_grad():
            expected = model(**inputs)[0]
        for form, most, variant, flags in [
            ("one", None, "", []),
            ("shards", 20_000, "", []),
            ("fp16", 20_000, "fp16", []),
            ("split", None, "", ["--max-shard-size", "30KB"]),
            ("joined", 20_000, "", ["--max-shard-size", "5GB"]),
            ("copies", 20_000, "", ["--aliases", "copy"]),
        ]:
            source = root / f"{name}-{form}"
            source.mkdir(parents=True, exist_ok=True)
            config.architectures = [cls.__name__]
            config.save_pretrained(source)
            save_pickled(model.state_dict(), source, "pytorch_model", most, variant)
            torch.save({"lr": 1e-3}, source / "training_args.bin")
            target = convert(source, *flags)
            options = {"variant": variant} if variant else {}
            loaded, info = cls.from_pretrained(target, use_safetensors=True, output_loading_info=True, **options)
            assert not info["missing_keys"] and not info["unexpected_keys"], (name, form, info)
            same(f"{name} {form}", model.state_dict(), loaded.state_dict())
            with torch.no_grad():
                assert torch.equal(loaded.eval()(**inputs)[0], expected), (name, form)
            checked += 1
    return checked


def check_index(root: Path) -> int:
    """The shards and index of `--max-shard-size` are those of huggingface_hub."""
    from huggingface_hub import save_torch_state_dict

    torch.manual_seed(2)
    state = {f"layer.{i}.{part}": torch.randn(i * 7 % 13 + 1, 11) for i in range(40) for part in ("weight", "bias")}
    state["größe"] = torch.randn(900)
    state["tied"] = state["layer.3.weight"]
    expected = root / "hub"
    expected.mkdir(parents=True)
    save_torch_state_dict(dict(state), expected, max_shard_size="3KB", shared_tensors_to_discard=["tied"])
    source = root / "hub-source"
    source.mkdir()
    torch.save(state, source / "pytorch_model.bin")
    target = convert(source, "--max-shard-size", "3KB")
    files = sorted(file.name for file in expected.iterdir())
    assert len(files) > 5
    for file in files:
        got, want = (target / file).read_bytes(), (expected / file).read_bytes()
        assert got == want, file
    assert sorted(file.name for file in target.iterdir()) == sorted([*files, "SHA256SUMS", "manifest.json"])
    return len(files)


def check_diffusers(root: Path) -> int:
    import diffusers as d
    import transformers as t

    torch.manual_seed(3)
    unet = d.UNet2DConditionModel(sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=32, attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    vae = d.AutoencoderKL(block_out_channels=(8,), latent_channels=4, norm_num_groups=4, down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",))
    text = t.CLIPTextModel(t.CLIPTextConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4))
    parts = {"unet": (unet, "diffusion_pytorch_model"), "vae": (vae, "diffusion_pytorch_model"), "text_encoder": (text, "pytorch_model")}
    source = root / "pipeline"
    source.mkdir()
    for name, (model, stem) in parts.items():
        (source / name).mkdir()
        model.config.save_pretrained(source / name) if name == "text_encoder" else model.save_config(source / name)
        save_pickled(model.state_dict(), source / name, stem, 20_000 if name == "unet" else None)
    (source / "scheduler").mkdir()
    d.DDIMScheduler().save_config(source / "scheduler")
    (source / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    target = convert(source)
    assert (target / "model_index.json").exists() and (target / "scheduler/scheduler_config.json").exists()
    for name, (model, _) in parts.items():
        loaded = type(model).from_pretrained(target / name, use_safetensors=True)
        same(name, model.state_dict(), loaded.state_dict())
    return len(parts)


def check_peft(root: Path) -> int:
    import peft
    import transformers as t

    torch.manual_seed(4)
    config = t.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=96)
    base = t.GPT2LMHeadModel(config).eval()
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["c_attn"], fan_in_fan_out=True))
    source = root / "adapter"
    model.save_pretrained(source, safe_serialization=False)
    assert (source / "adapter_model.bin").exists()
    inputs = inputs_of("gpt2")
    with torch.no_grad():
        expected = model(**inputs)[0]
    target = convert(source)
    torch.manual_seed(4)
    again = peft.PeftModel.from_pretrained(t.GPT2LMHeadModel(config).eval(), target)
    with torch.no_grad():
        assert torch.equal(again(**inputs)[0], expected)
    return 1


def main() -> None:
    root = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for check in (check_index, check_transformers, check_diffusers, check_peft):
        print(f"{check.__name__}: {check(root)} the same", flush=True)


main()
