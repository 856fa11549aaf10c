//! Keyless signatures against those that `tests/fixtures/signing/keyless.py` made with a Sigstore of its own, and of which the
//! reference implementation says the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use depickle::custody::oms::{
    CertificateError, Error, Fault, Keyless, KeylessError, Mismatch, PublicKey, Trust, Verified,
    VerifyOptions, verify,
};
use serde_json::{Value, json};
use sigstore_verify::{CertificateError as Refusal, Error as Sigstore, TimestampError, TransparencyLogError};
use tempfile::TempDir;

use crate::cli::depickle;

const IDENTITY: &str = "release@example.org";
const ISSUER: &str = "https://accounts.example.org";
const WORKFLOW: &str = "https://ci.example.org/team/model/.ci/release.yml@refs/tags/v1";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signing").join(name)
}

fn trust(identity: &str, issuer: &str, root: Option<&str>) -> Trust {
    let root = root.map(|root| fixture("keyless").join(format!("{root}.json")));
    Trust::Keyless(Arc::new(Keyless::new(identity, issuer, root.as_deref()).unwrap()))
}

fn own() -> Trust {
    trust(IDENTITY, ISSUER, Some("trusted_root"))
}

fn check_at(signature: &Path, trust: &Trust) -> Result<Verified, Error> {
    verify(&fixture("model"), signature, trust, &VerifyOptions::default())
}

fn check(name: &str, trust: &Trust) -> Result<Verified, Error> {
    check_at(&fixture("keyless").join(format!("{name}.sig")), trust)
}

fn fault(result: Result<Verified, Error>) -> Fault {
    match result {
        Err(Error::Fault { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// Why Sigstore's crate refuses it.
fn refusal(result: Result<Verified, Error>) -> Sigstore {
    match fault(result) {
        Fault::Keyless(KeylessError::Refused(error)) => *error,
        other => panic!("{other:?}"),
    }
}

/// A good bundle with a change, in a file.
fn changed(change: impl FnOnce(&mut Value)) -> tempfile::NamedTempFile {
    let mut bundle: Value = serde_json::from_slice(&fs::read(fixture("keyless/good.sig")).unwrap()).unwrap();
    change(&mut bundle);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bundle.to_string()).unwrap();
    file
}

#[test]
fn keyless_signatures_are_good_for_whom_they_name() {
    for (name, identity) in [("good", IDENTITY), ("workflow", WORKFLOW), ("timestamp", IDENTITY)] {
        let verified = check(name, &trust(identity, ISSUER, Some("trusted_root"))).unwrap();
        assert_eq!((verified.mismatches, verified.files.len()), (vec![], 4), "{name}");
    }
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("config.json"), "[]\n").unwrap();
    let signature = fixture("keyless/good.sig");
    let verified = verify(folder.path(), &signature, &own(), &VerifyOptions::default()).unwrap();
    assert_eq!(verified.mismatches.len(), 4);
    assert!(
        verified
            .mismatches
            .iter()
            .any(|(name, mismatch)| name == "config.json" && matches!(mismatch, Mismatch::Digest { .. }))
    );
}

#[test]
fn keyless_signatures_of_others_are_refused() {
    for (identity, issuer) in [
        ("else@example.org", ISSUER),
        ("Release@example.org", ISSUER),
        ("release@example.org.evil.org", ISSUER),
        (WORKFLOW, ISSUER),
        ("", ISSUER),
    ] {
        let refused = refusal(check("good", &trust(identity, issuer, Some("trusted_root"))));
        assert!(matches!(refused, Sigstore::IdentityMismatch { .. }), "{identity}: {refused:?}");
    }
    for issuer in ["https://else.example.org", "https://accounts.example.org/", ""] {
        let refused = refusal(check("good", &trust(IDENTITY, issuer, Some("trusted_root"))));
        assert!(matches!(refused, Sigstore::IssuerMismatch { .. }), "{issuer}: {refused:?}");
    }
    // The keys of another Sigstore, and of the public one. The first thing that they do not vouch for is the time.
    for root in [Some("other_root"), None] {
        let refused = refusal(check("good", &trust(IDENTITY, ISSUER, root)));
        let expected = matches!(
            refused,
            Sigstore::TransparencyLog(
                TransparencyLogError::InclusionPromise(_) | TransparencyLogError::UnknownLog { .. }
            )
        );
        assert!(expected, "{root:?}: {refused:?}");
    }
    assert!(check("stranger", &trust(IDENTITY, ISSUER, Some("other_root"))).is_ok());
}

#[test]
fn keyless_signatures_that_are_not_whole_are_refused() {
    type Expected = fn(&Sigstore) -> bool;
    let table: [(&str, Expected); 8] = [
        ("stranger", |e| matches!(e, Sigstore::TransparencyLog(_))),
        ("stranger_timestamp", |e| matches!(e, Sigstore::Timestamp(TimestampError::Invalid(_)))),
        ("late", |e| matches!(e, Sigstore::Certificate(Refusal::ChainInvalid(_) | Refusal::Expired { .. }))),
        ("timeless", |e| matches!(e, Sigstore::Timestamp(TimestampError::NoVerifiedTimestamp(_)))),
        ("unlogged", |e| matches!(e, Sigstore::Bundle(_))),
        ("borrowed_entry", |e| {
            matches!(e, Sigstore::TransparencyLog(TransparencyLogError::EntryMismatch(_)))
        }),
        ("no_sct", |e| matches!(e, Sigstore::Certificate(Refusal::Sct(_)))),
        ("server", |e| matches!(e, Sigstore::Certificate(Refusal::ChainInvalid(_)))),
    ];
    for (name, expected) in table {
        let refused = refusal(check(name, &own()));
        assert!(expected(&refused), "{name}: {refused:?}");
    }
    // The log said that it would take the entry, and does not show that it did.
    let bundle = changed(|bundle| {
        let entry = &mut bundle["verificationMaterial"]["tlogEntries"][0];
        entry.as_object_mut().unwrap().remove("inclusionProof");
    });
    let refused = refusal(check_at(bundle.path(), &own()));
    assert!(matches!(refused, Sigstore::Bundle(_)), "{refused:?}");
}

#[test]
fn keyless_bundles_are_held_to_their_form() {
    let told = |change: &dyn Fn(&mut Value)| fault(check_at(changed(change).path(), &own()));
    let other = told(&|b| b["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.1"));
    assert!(matches!(other, Fault::MediaType(_)), "{other:?}");
    let other = told(&|b| b["dsseEnvelope"]["payloadType"] = json!("application/json"));
    assert!(matches!(other, Fault::PayloadType(_)), "{other:?}");
    let other = told(&|b| b["verificationMaterial"]["publicKey"] = json!({"hint": "x"}));
    assert!(matches!(other, Fault::Method { found: "several kinds of keys", .. }), "{other:?}");
    let other = told(&|b| b["verificationMaterial"]["certificate"] = json!({"rawBytes": "MAA="}));
    assert!(matches!(other, Fault::Certificate(CertificateError::Der(_))), "{other:?}");
    let other = told(&|b| b["verificationMaterial"]["tlogEntries"][0]["logIndex"] = json!(true));
    assert!(matches!(other, Fault::Keyless(KeylessError::Malformed(_))), "{other:?}");
    let other = told(&|b| b["messageSignature"] = json!({}));
    assert!(matches!(other, Fault::Json { .. }), "{other:?}");
    // Each is checked with what it was made with.
    let key = Trust::Key(PublicKey::open(&fixture("p256.pub.pem")).unwrap());
    assert!(matches!(fault(check("good", &key)), Fault::Method { found: "a keyless certificate", .. }));
    let signature = fixture("p256.sig");
    assert!(matches!(fault(check_at(&signature, &own())), Fault::Method { found: "a key", .. }));
    assert!(matches!(fault(check_at(&fixture("signer.sig"), &own())), Fault::Method { .. }));
}

#[test]
fn a_flipped_bit_in_a_keyless_signature_is_told() {
    let good = fs::read(fixture("keyless/good.sig")).unwrap();
    // What the log calls itself beside its signature is not signed, and nothing rests on it: its key is found by its number.
    let mark = r"\n\n\u2014 ";
    let name = String::from_utf8_lossy(&good).find(mark).unwrap() + mark.len();
    let name = name..name + "rekor.example.org".len();
    let file = tempfile::NamedTempFile::new().unwrap();
    let trust = own();
    for at in (0..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 7);
        fs::write(file.path(), &bad).unwrap();
        assert!(check_at(file.path(), &trust).is_err() || name.contains(&at), "at {at}");
    }
}

#[test]
fn keyless_trust_needs_a_trusted_root_of_a_good_form() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let open = |path: &Path| Keyless::new(IDENTITY, ISSUER, Some(path)).unwrap_err();
    let root: Value =
        serde_json::from_slice(&fs::read(fixture("keyless/trusted_root.json")).unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut root = root.clone();
        change(&mut root);
        match open(&at("root.json", root.to_string().as_bytes())) {
            Error::TrustedRoot { error, .. } => error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(open(&folder.path().join("nowhere")), Error::Io { .. }));
    let words = open(&at("words", b"words"));
    assert!(matches!(words, Error::TrustedRoot { error: KeylessError::Root(_), .. }), "{words:?}");
    let config =
        with(&|r| r["mediaType"] = json!("application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"));
    assert!(matches!(config, KeylessError::RootType(_)), "{config:?}");
    let broken =
        with(&|r| r["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"] = json!("MAA="));
    assert!(matches!(broken, KeylessError::Refused(_)), "{broken:?}");
    // Without logs or authorities nothing is good.
    for missing in ["tlogs", "ctlogs", "certificateAuthorities"] {
        let mut root = root.clone();
        root[missing] = json!([]);
        let path = at("root.json", root.to_string().as_bytes());
        let trust = Trust::Keyless(Arc::new(Keyless::new(IDENTITY, ISSUER, Some(&path)).unwrap()));
        refusal(check("good", &trust));
    }
}

#[test]
fn keyless_signatures_are_checked_by_the_program() {
    let folder = TempDir::new().unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (model, signature, root) = (
        text(fixture("model")),
        text(fixture("keyless/good.sig")),
        text(fixture("keyless/trusted_root.json")),
    );
    let run = |more: &[&str]| {
        depickle(folder.path(), &[&["verify", &model, "--signature", &signature], more].concat())
    };
    let trusted = ["--issuer", ISSUER, "--trusted-root", &root];
    let ran = run(&[&["--identity", IDENTITY], &trusted[..]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("4 of 4 files match, signed by release@example.org, for whom"), "{ran:?}");
    let ran = run(&[&["--identity", "else@example.org"], &trusted[..]].concat());
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.out.contains("identity mismatch: expected else@example.org, got release@example.org"),
        "{ran:?}"
    );
    let ran = run(&["--identity", IDENTITY, "--issuer", ISSUER]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let certificate = text(fixture("root.pem"));
    for usage in [
        &trusted[..],
        &["--identity", IDENTITY, "--trusted-root", &root],
        &["--identity", IDENTITY],
        &["--identity", IDENTITY, "--issuer", ISSUER, "--key", &certificate],
        &["--identity", IDENTITY, "--issuer", ISSUER, "--certificate-chain", &certificate],
        &["--identity", IDENTITY, "--issuer", ISSUER, "--trusted-root", &signature],
    ] {
        assert_eq!(run(usage).code, 2, "{usage:?}");
    }
}

#[test]
fn keyless_signatures_need_no_crate_that_speaks_to_a_network() {
    // The names of all crates that any feature brings along.
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
    assert!(names.contains(&"\"sigstore-verify\""));
    for name in ["tokio", "reqwest", "hyper", "rustls", "ureq", "curl", "mio", "socket2", "sigstore-tuf"] {
        assert!(!names.contains(&format!("\"{name}\"").as_str()), "{name}");
    }
}
