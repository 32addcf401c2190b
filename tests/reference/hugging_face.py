"""The trainers' checkpoints in Hugging Face transformers, loaded as anybody would load them.

    python3 hugging_face.py FOLDER

For every FOLDER/NAME.case.safetensors (a batch under input/, the folder of a checkpoint in the metadata) writes
FOLDER/NAME.result.safetensors: logits, and of BERT sentence_logits. Fails where the class that the checkpoint names
misses a tensor, or does not know one.
"""
import json
import pathlib
import sys

import torch
import transformers
from transformer import read_safetensors, write_safetensors


def result(tensors, metadata):
    folder = metadata["checkpoint"]
    name = json.loads(pathlib.Path(folder, "config.json").read_text())["architectures"][0]
    model, loading = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    wrong = {kind: list(names) for kind, names in loading.items() if names}
    if wrong:
        sys.exit(f"{folder}: {name}: {wrong}")
    inputs = {"input_ids": tensors["input/tokens"]}
    if "input/types" in tensors:
        inputs["token_type_ids"] = tensors["input/types"]
    if "input/lengths" in tensors:
        places = torch.arange(tensors["input/tokens"].shape[1])
        inputs["attention_mask"] = (places[None, :] < tensors["input/lengths"][:, None]).long()
    with torch.no_grad():
        out = model.eval()(**inputs)
    if name == "BertForPreTraining":
        return {"logits": out.prediction_logits, "sentence_logits": out.seq_relationship_logits}
    return {"logits": out.logits}


if __name__ == "__main__":
    torch.set_num_threads(1)  # the models are tiny
    transformers.logging.set_verbosity_error()
    for case in sorted(pathlib.Path(sys.argv[1]).glob("*.case.safetensors")):
        write_safetensors(case.with_name(case.name.replace(".case.", ".result.")), result(*read_safetensors(case)))
