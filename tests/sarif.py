#!/usr/bin/env python3
"""Validates what `depickle scan --format sarif` prints against the official schema, which is not in this repository.

  sarif.py DEPICKLE sarif-schema-2.1.0.json PATH...

The schema is published by OASIS (github.com/oasis-tcs/sarif-spec, sarif-2.1/schema). Needs the package jsonschema. Beyond the
schema it is checked that indices point at what they name, and that GitHub's limits are kept."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema

program, schema, *paths = sys.argv[1:]
schema = json.loads(Path(schema).read_text())
validator = jsonschema.validators.validator_for(schema)(schema, format_checker=jsonschema.FormatChecker())
documents = results = 0
for path in paths:
    done = subprocess.run([program, "scan", "--no-progress", "--format", "sarif", path], capture_output=True)
    assert done.returncode in (0, 1, 3), done.stderr.decode()
    document = json.loads(done.stdout)
    errors = sorted(validator.iter_errors(document), key=str)
    assert not errors, f"{path}: {errors[0].message} at {list(errors[0].absolute_path)}"
    (run,) = document["runs"]
    rules, artifacts = run["tool"]["driver"]["rules"], run["artifacts"]
    assert len({rule["id"] for rule in rules}) == len(rules) and len(run["results"]) <= 25_000
    assert run["invocations"][0]["exitCode"] == done.returncode
    for artifact in artifacts:
        assert artifact.get("parentIndex", 0) < len(artifacts)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        place = location["physicalLocation"]["artifactLocation"]
        assert artifacts[place["index"]]["location"]["uri"] == place["uri"]
        for related in result.get("relatedLocations", []):
            assert "parentIndex" in artifacts[related["physicalLocation"]["artifactLocation"]["index"]]
    assert "null" not in {type(v).__name__ for v in document.values()}
    documents, results = documents + 1, results + len(run["results"])
print(f"{documents} documents with {results} results are valid SARIF 2.1.0")
