"""The documents beside a conversion, read by the public libraries for them.

    python tests/interop/documents.py [--depickle target/debug/depickle]

Installs the libraries in an environment of its own (needs a network), converts an example and a folder of shards with every document, and
checks: the statement and the predicate with in_toto_attestation, the envelope with securesystemslib, the bill of
materials against the schema of CycloneDX 1.6, SHA256SUMS with sha256sum, and the signature with model-signing. Ends
with the number of checks that passed and failed.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import venv

PACKAGES = ["in-toto-attestation==0.9.3", "securesystemslib[crypto]==1.6.0", "cyclonedx-python-lib[json-validation]==11.12.0",
            "model-signing==1.1.1", "pyOpenSSL==26.4.0"]
ROOT = pathlib.Path(__file__).parent.parent.parent
KEYS = ROOT / "tests/fixtures/signing"


def check_statement(folder):
    from google.protobuf.json_format import Parse
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    text = (folder / "provenance.intoto.json").read_text()
    Statement.copy_from_pb(Parse(text, statement_pb2.Statement())).validate()
    predicate = json.loads((folder / "provenance.predicate.json").read_text())
    assert json.loads(text)["predicate"] == predicate
    # Fails where a field is unknown or of another type.
    provenance = Parse(json.dumps(predicate), provenance_pb2.Provenance())
    assert provenance.build_definition.build_type and provenance.run_details.builder.id
    for subject in json.loads(text)["subject"]:
        if (folder / subject["name"]).is_file():
            digest = hashlib.sha256((folder / subject["name"]).read_bytes()).hexdigest()
            assert subject["digest"] == {"sha256": digest}


def check_envelope(folder):
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    document = json.loads((folder / "provenance.dsse.json").read_text())
    keyid = document["signatures"][0]["keyid"]
    envelope = Envelope.from_dict(document)
    key = lambda name: SSlibKey.from_crypto(load_pem_public_key((KEYS / name).read_bytes()), keyid=keyid)
    envelope.verify([key("p256.pub.pem")], threshold=1)
    assert envelope.payload == (folder / "provenance.intoto.json").read_bytes()
    envelope.payload += b" "
    try:
        envelope.verify([key("p256.pub.pem")], threshold=1)
    except VerificationError:
        return
    raise AssertionError("a changed payload verifies")


def check_bom(folder):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str((folder / "bom.cdx.json").read_text())
    assert error is None, error


def check_sums(folder):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    names = {line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert any(name.endswith(".safetensors") for name in names) and any("manifest.json" in name for name in names)


def check_signature(folder):
    verify = [sys.executable, "-m", "model_signing", "verify", "key", folder, "--signature", folder / "model.sig",
              "--public_key", KEYS / "p256.pub.pem"]
    subprocess.run(verify, check=True, capture_output=True)


CHECKS = [check_statement, check_envelope, check_bom, check_sums, check_signature]


def inside(folder):
    failed = 0
    for check in CHECKS:
        try:
            check(folder)
        except Exception as error:
            failed += 1
            print(f"FAILED {check.__name__}: {type(error).__name__}: {error}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depickle", default=ROOT / "target/debug/depickle", type=pathlib.Path)
    parser.add_argument("--inside", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        sys.exit(inside(args.inside))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        failed = 0
        for source, flags in [("examples/tiny_gpt.ckpt", []), ("tests/fixtures/hf/gpt2", ["--max-shard-size", "2KB"]),
                              ("tests/fixtures/hf/pipeline", ["--metadata"])]:
            convert = [args.depickle, "convert", ROOT / source, "--quiet", "--provenance", "--bom", "--builder-id",
                       "https://example.org/builder", "--source-uri", f"https://example.org/{source}",
                       "--sign", KEYS / "p256.key.pem", *flags, "-o"]
            at = folder / pathlib.Path(source).stem
            outputs = [at / "one" / "model", at / "two" / "model"]
            for output in outputs:
                output.parent.mkdir(parents=True)
                subprocess.run([*convert, output], check=True)
            one, two = ({path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}
                        for output in outputs)
            assert one == two, "two runs differ"
            print(source, flush=True)
            failed += subprocess.run([python, __file__, "--inside", outputs[0]]).returncode
        sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
