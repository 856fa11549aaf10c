"""depickle and the reference implementation of OpenSSF Model Signing check each other's signatures.

    python tests/interop/model_signing.py [--depickle target/debug/depickle] [--suite FOLDER] [--spec FOLDER] [--keyless]

Installs `model-signing` in an environment of its own (needs a network), signs folders with either, and checks them with
both. With --suite, a checkout of https://github.com/sampras343/model-signing-conformance, runs that suite too, with
`depickle sign-model` and `verify-model` as its adapter, and its schemas from --spec, a checkout of
https://github.com/ossf/model-signing-spec, or from there. The suite skips its keyless bundles where there is no identity token; with --keyless, for a program with
that feature, those that can be verified without one are. Ends with the number of checks that passed and failed.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

# The package does not declare that it needs pyOpenSSL.
PACKAGES = ["model-signing==1.1.1", "pyOpenSSL==26.4.0"]
SUITE = ["pytest>=8", "pytest-json-report", "jsonschema>=4.20", "referencing>=0.31"]
SPEC = "git+https://github.com/ossf/model-signing-spec.git"
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "signing"
ROOT = pathlib.Path(__file__).parent.parent.parent

# Names that sort differently as wholes and by components, that are hidden, not ASCII, empty or nested.
MODELS = {
    "one": {"model.safetensors": b"weights"},
    "order": {"a b": b"1", "a.txt": b"2", "a/b": b"3", "a-b/c": b"4", "a": None},
    "names": {"模型.bin": b"1", ".config": b"2", "path with spaces/x (1).bin": b"3", "empty": b"", "ü/é": b"4"},
    "deep": {"/".join("abcdefghij"[:n]) + "/file": bytes([n]) for n in range(1, 10)},
}


def environment(folder, packages):
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def run(self, what, command, good=True):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if (done.returncode == 0) == good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {what}: exit {done.returncode}\n{done.stdout}{done.stderr}")

    def equal(self, what, one, other):
        if one == other:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {what}: {str(one)[:200]} is not {str(other)[:200]}")


def write(folder, model):
    for name, data in model.items():
        if data is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


def cross_check(checks, depickle, reference, folder):
    for name, model in MODELS.items():
        for curve in ["p256", "p384", "p521"]:
            what, at = f"{name}, {curve}", folder / name / curve
            write(at, model)
            private, public = FIXTURES / f"{curve}.key.pem", FIXTURES / f"{curve}.pub.pem"
            by_reference = [*reference, "verify", "key", at, "--public_key", public, "--signature", at / "model.sig"]
            by_depickle = [depickle, "verify", at, "--key", public]

            checks.run(f"{what}: depickle signs", [depickle, "sign", at, "--key", private])
            checks.run(f"{what}: reference verifies depickle's", by_reference)
            checks.run(f"{what}: depickle verifies its own", by_depickle)
            first = (at / "model.sig").read_bytes()
            checks.run(f"{what}: depickle signs again", [depickle, "sign", at, "--key", private, "--force"])
            checks.equal(f"{what}: the same bytes", first, (at / "model.sig").read_bytes())

            (at / "model.sig").unlink()
            sign = [*reference, "sign", "key", at, "--private_key", private, "--signature", at / "model.sig"]
            checks.run(f"{what}: reference signs", sign)
            checks.run(f"{what}: depickle verifies the reference's", by_depickle)
            checks.run(f"{what}: reference verifies its own", by_reference)
            victim = next(path for path in sorted(at.rglob("*")) if path.is_file() and path.name != "model.sig")
            victim.write_bytes(victim.read_bytes() + b"x")
            checks.run(f"{what}: depickle sees a change", by_depickle, good=False)
            checks.run(f"{what}: reference sees a change", by_reference, good=False)

    at = folder / "certificate"
    write(at, MODELS["one"])
    chain = [FIXTURES / "signer.pem", FIXTURES / "middle.pem"]
    checks.run("certificate: depickle signs", [
        depickle, "sign", at, "--key", FIXTURES / "p256.key.pem", "--certificate", chain[0],
        "--certificate-chain", chain[1]])
    checks.run("certificate: reference verifies depickle's", [
        *reference, "verify", "certificate", at, "--signature", at / "model.sig",
        "--certificate_chain", FIXTURES / "root.pem"])
    checks.run("certificate: depickle verifies its own", [
        depickle, "verify", at, "--certificate-chain", FIXTURES / "root.pem", "--identity", "release@example.org"])


def conformance(checks, depickle, python, suite, folder):
    report = folder / "report.json"
    subprocess.run([python, "-m", "pytest", suite / "test", "-q", f"--entrypoint={depickle}",
                    "--json-report", f"--json-report-file={report}"], cwd=suite, capture_output=True)
    for test in json.loads(report.read_text())["tests"]:
        name = test["nodeid"].split("[", 1)[1].split(" | ")[0]
        method = name.rsplit("/", 1)[-1]
        if test["outcome"] == "skipped":
            print(f"skipped (needs an identity token): {method}")
        else:
            checks.equal(f"suite: {method}", test["outcome"], "passed")


def keyless(checks, depickle, suite, folder):
    """The keyless bundles of the suite, which runs them only where others can be signed, too."""
    for case in sorted((suite / "test/test-cases/verify").glob("*/*sigstore*")):
        config = json.loads((case / "config.json").read_text())
        if config["method"] != "sigstore":
            continue
        model = folder / "keyless" / case.name
        shutil.copytree(case / config["model"], model)
        for name, text in config.get("model_modifications", {}).get("tamper", {}).items():
            (model / name).write_text(text)
        verify = config["verify"]
        command = [depickle, "verify-model", "--method", "sigstore", "--model-path", model, "--bundle",
                   case / "bundle.sig", "--identity", verify["identity"], "--identity-provider",
                   verify["identity_provider"]]
        for path in verify.get("ignore_paths", []):
            command += ["--ignore-paths", model / path]
        checks.run(f"keyless: {case.name}", command, good=config.get("expect", "pass") == "pass")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depickle", default=ROOT / "target/debug/depickle", type=pathlib.Path)
    parser.add_argument("--suite", type=pathlib.Path)
    parser.add_argument("--spec", type=pathlib.Path)
    parser.add_argument("--keyless", action="store_true")
    args = parser.parse_args()
    spec = str(args.spec.resolve()) if args.spec else SPEC
    depickle, checks = args.depickle.resolve(), Checks()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        python = environment(folder / "venv", PACKAGES + ([*SUITE, spec] if args.suite else []))
        cross_check(checks, depickle, [python, "-m", "model_signing"], folder)
        if args.suite:
            conformance(checks, depickle, python, args.suite.resolve(), folder)
        if args.suite and args.keyless:
            keyless(checks, depickle, args.suite.resolve(), folder)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
