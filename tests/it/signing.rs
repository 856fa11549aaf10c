//! OpenSSF Model Signing against files that the reference implementation signed, and against what is wrong with others.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use depickle::custody::oms::{
    Certificate, CertificateError, Error, Fault, KeyError, Mismatch, PrivateKey, Profile, PublicKey, Roots,
    SignOptions, Stray, Trust, Verified, VerifyOptions, sign, sign_statement, verify,
};
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signing").join(name)
}

fn private(name: &str) -> PrivateKey {
    PrivateKey::open(&fixture(&format!("{name}.key.pem")), None).unwrap()
}

fn key(name: &str) -> Trust {
    Trust::Key(PublicKey::open(&fixture(&format!("{name}.pub.pem"))).unwrap())
}

fn certificates(names: &[&str]) -> Vec<Certificate> {
    names.iter().flat_map(|name| Certificate::open_all(&fixture(&format!("{name}.pem"))).unwrap()).collect()
}

fn roots(roots: &[&str]) -> Roots {
    Roots {
        certificates: certificates(roots),
        identity: Some("release@example.org".to_owned()),
        profile: Profile::Strict,
        // The tests stay right when the world goes on.
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

/// A copy of the model, signed with P-256 in `model.sig`.
fn signed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "a b", "a.txt", "a/b"] {
        let to = folder.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(fixture("model").join(name), to).unwrap();
    }
    resign(folder.path());
    folder
}

fn resign(folder: &Path) {
    let signature = folder.join("model.sig");
    let options = SignOptions { signature: signature.clone(), ..SignOptions::default() };
    fs::write(signature, sign(folder, &private("p256"), &options).unwrap().bundle).unwrap();
}

fn check(folder: &Path) -> Result<Verified, Error> {
    verify(folder, &folder.join("model.sig"), &key("p256"), &VerifyOptions::default())
}

fn fault(result: Result<Verified, Error>) -> Fault {
    match result {
        Err(Error::Fault { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn signatures_of_every_curve_are_reproducible_and_good() {
    for name in ["p256", "p384", "p521"] {
        let options = SignOptions { signature: "elsewhere.sig".into(), ..SignOptions::default() };
        let one = sign(&fixture("model"), &private(name), &options).unwrap();
        assert_eq!(one, sign(&fixture("model"), &private(name), &options).unwrap());
        assert_eq!(one.files, 4);
        assert!(one.root_by_components.is_some_and(|other| other != one.root));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &one.bundle).unwrap();
        let options = VerifyOptions::default();
        let verified = verify(&fixture("model"), file.path(), &key(name), &options).unwrap();
        assert_eq!((verified.root, verified.mismatches), (one.root, vec![]));
        for other in ["p256", "p384", "p521"].iter().filter(|other| **other != name) {
            let refused = verify(&fixture("model"), file.path(), &key(other), &options);
            assert!(matches!(fault(refused), Fault::Hint { .. }), "{name} {other}");
        }
    }
}

#[test]
fn signatures_of_the_reference_implementation_are_good() {
    for name in ["p256", "p384", "p521"] {
        let signature = fixture(&format!("{name}.sig"));
        let verified = verify(&fixture("model"), &signature, &key(name), &VerifyOptions::default()).unwrap();
        assert_eq!(verified.mismatches, [], "{name}");
        assert_eq!(verified.files.keys().collect::<Vec<_>>(), ["a b", "a.txt", "a/b", "config.json"]);
        // It sorts `a/b` first, so that its digest over all is another than ours.
        let options = SignOptions::default();
        let own = sign(&fixture("model"), &private(name), &options).unwrap();
        assert_eq!(own.root_by_components, Some(verified.root));
    }
    let single = fixture("model/config.json");
    let verified = verify(&single, &fixture("single.sig"), &key("p256"), &VerifyOptions::default()).unwrap();
    assert_eq!((verified.mismatches, verified.files.into_keys().collect()), (vec![], vec![".".to_owned()]));
    let wrong = fixture("model/a.txt");
    let verified = verify(&wrong, &fixture("single.sig"), &key("p256"), &VerifyOptions::default()).unwrap();
    assert!(matches!(verified.mismatches.as_slice(), [(name, Mismatch::Digest { .. })] if name == "."));

    let by = |name: &str, roots: Roots| {
        let (signature, trust) = (fixture(&format!("{name}.sig")), Trust::Certificates(roots));
        verify(&fixture("model"), &signature, &trust, &VerifyOptions::default())
    };
    assert_eq!(by("signer", roots(&["root"])).unwrap().mismatches, []);
    // The reference implementation takes the certificate of a TLS server for one that signs.
    let refused = fault(by("server", roots(&["root"])));
    assert!(matches!(refused, Fault::Certificate(CertificateError::Purpose(_))), "{refused:?}");
}

#[test]
fn keys_of_other_kinds_are_refused_by_name() {
    let public = |name: &str| match PublicKey::open(&fixture(&format!("{name}.pub.pem"))) {
        Err(Error::Key { error, .. }) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(public("ed25519"), KeyError::Algorithm(_)));
    assert!(matches!(public("rsa"), KeyError::Algorithm(_)));
    assert!(matches!(public("secp256k1"), KeyError::Curve(Some(_))));
    assert!(matches!(PublicKey::open(&fixture("p256.key.pem")), Err(Error::Key { .. })));
    let encrypted = |password| match PrivateKey::open(&fixture("encrypted.key.pem"), password) {
        Err(Error::Key { error, .. }) => Err(error),
        opened => Ok(opened.unwrap().public()),
    };
    assert!(matches!(encrypted(None), Err(KeyError::Encrypted)));
    assert!(matches!(encrypted(Some(b"wrong")), Err(KeyError::Password(_))));
    assert_eq!(encrypted(Some(b"test only")).unwrap(), private("p256").public());
}

#[test]
fn bundles_vary_and_what_is_ambiguous_is_refused() {
    let folder = signed();
    let path = folder.path().join("model.sig");
    let text = fs::read_to_string(&path).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut bundle: Value = serde_json::from_str(&text).unwrap();
        change(&mut bundle);
        fs::write(&path, bundle.to_string()).unwrap();
        check(folder.path())
    };
    let remove = |value: &mut Value, key: &str| _ = value.as_object_mut().unwrap().remove(key).unwrap();
    let material = "verificationMaterial";

    // What Go writes, and what versions before 1.1 wrote.
    let good: [&dyn Fn(&mut Value); 5] = [
        &|bundle| remove(&mut bundle[material], "tlogEntries"),
        &|bundle| remove(&mut bundle["dsseEnvelope"]["signatures"][0], "keyid"),
        &|bundle| bundle["dsseEnvelope"]["signatures"][0]["keyid"] = Value::Null,
        &|bundle| bundle[material]["publicKey"] = json!({"rawBytes": "AA==", "keyDetails": "X"}),
        &|bundle| bundle[material]["publicKey"]["rawBytes"] = json!("AA=="),
    ];
    for change in good {
        assert_eq!(with(change).unwrap().mismatches, []);
    }
    let bad = |change: &dyn Fn(&mut Value)| fault(with(change));
    assert!(matches!(bad(&|bundle| bundle["extra"] = json!(1)), Fault::Json { part: "bundle", .. }));
    assert!(matches!(bad(&|bundle| bundle["mediaType"] = json!("x")), Fault::MediaType(_)));
    assert!(matches!(bad(&|bundle| bundle[material]["publicKey"] = json!({})), Fault::NoHint));
    assert!(matches!(bad(&|bundle| bundle[material]["publicKey"]["hint"] = json!("00")), Fault::Hint { .. }));
    let chain = json!({"certificates": []});
    let other = bad(&|bundle| bundle[material] = json!({"x509CertificateChain": chain.clone()}));
    assert!(matches!(other, Fault::Method { found: "certificates", .. }), "{other:?}");
    let both = bad(&|bundle| bundle[material]["x509CertificateChain"] = chain.clone());
    assert!(matches!(both, Fault::Method { .. }), "{both:?}");
    let keyless = bad(&|bundle| bundle[material] = json!({"certificate": {"rawBytes": ""}}));
    assert!(matches!(keyless, Fault::Method { .. }), "{keyless:?}");
    let twice = bad(&|bundle| {
        let one = bundle["dsseEnvelope"]["signatures"][0].clone();
        bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(one);
    });
    assert!(matches!(twice, Fault::Signatures(2)));
    let payload_type = bad(&|bundle| bundle["dsseEnvelope"]["payloadType"] = json!("text/plain"));
    assert!(matches!(payload_type, Fault::PayloadType(_)));
    assert!(matches!(bad(&|bundle| bundle["dsseEnvelope"]["payload"] = json!("e30=")), Fault::Signature));
    let base64 = bad(&|bundle| bundle["dsseEnvelope"]["payload"] = json!("!"));
    assert!(matches!(base64, Fault::Base64("payload")));

    fs::write(&path, text.replacen('{', r#"{"mediaType":"x","#, 1)).unwrap();
    assert!(matches!(fault(check(folder.path())), Fault::Json { .. }));
    fs::write(&path, "").unwrap();
    assert!(matches!(fault(check(folder.path())), Fault::Json { .. }));
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(fault(check(folder.path())), Fault::TooLarge { .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(fault(check(folder.path())), Fault::Missing));
}

/// Checks the model with a bundle around any statement, which is signed with P-256.
fn check_statement(statement: &str) -> Result<Verified, Error> {
    let key = private("p256");
    let envelope = sign_statement(statement.as_bytes(), &key).unwrap();
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": key.public().hint().unwrap()}},
        "dsseEnvelope": serde_json::from_slice::<Value>(&envelope).unwrap(),
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bundle.to_string()).unwrap();
    verify(&fixture("model"), file.path(), &self::key("p256"), &VerifyOptions::default())
}

#[test]
fn statements_vary_and_what_they_must_say_is_asked_for() {
    let options = VerifyOptions::default();
    let reference = verify(&fixture("model"), &fixture("p256.sig"), &key("p256"), &options).unwrap();
    let resource =
        |(name, digest): (&String, &String)| json!({"name": name, "algorithm": "sha256", "digest": digest});
    let good = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "any name", "digest": {"sha256": reference.root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false},
            "resources": reference.files.iter().map(resource).collect::<Vec<_>>(),
        },
    });
    let with = |change: &dyn Fn(&mut Value)| {
        let mut statement = good.clone();
        change(&mut statement);
        check_statement(&statement.to_string())
    };
    assert_eq!(with(&|_| ()).unwrap().mismatches, []);
    // The specification forbids to write these fields and asks to ignore those of resources; the reference
    // implementation ignores both.
    let extra = with(&|s| {
        s["predicate"]["claims"] = json!([]);
        s["predicate"]["resources"][0]["annotations"] = json!({});
    });
    assert_eq!(extra.unwrap().mismatches, []);

    let bad = |change: &dyn Fn(&mut Value)| fault(with(change));
    assert!(matches!(bad(&|s| s["_type"] = json!("x")), Fault::Statement { field: "_type", .. }));
    let predicate_type = bad(&|s| s["predicateType"] = json!("https://model_signing/Digests/v0.1"));
    assert!(matches!(predicate_type, Fault::Statement { field: "predicateType", .. }));
    assert!(matches!(bad(&|s| s["subject"] = json!([])), Fault::Subjects(0)));
    let no_predicate = bad(&|s| _ = s.as_object_mut().unwrap().remove("predicate"));
    assert!(matches!(no_predicate, Fault::Json { part: "statement", .. }));
    assert!(matches!(bad(&|s| s["predicate"]["resources"] = json!([])), Fault::NoResources));
    assert!(matches!(bad(&|s| s["subject"][0]["digest"]["sha256"] = json!("00")), Fault::Root { .. }));
    let outside = bad(&|s| s["predicate"]["resources"][0]["name"] = json!("../a"));
    assert!(matches!(outside, Fault::ResourceName(_)));
    let twice = good.to_string().replacen('{', r#"{"_type":"x","#, 1);
    assert!(matches!(fault(check_statement(&twice)), Fault::Json { part: "statement", .. }));
}

#[test]
fn files_that_differ_are_named() {
    let folder = signed();
    let at = |name: &str| folder.path().join(name);
    let mismatches = || check(folder.path()).unwrap().mismatches;
    assert_eq!(mismatches(), []);
    fs::write(at("a.txt"), "changed").unwrap();
    fs::remove_file(at("a/b")).unwrap();
    fs::write(at("a/new"), "").unwrap();
    let found = mismatches();
    assert!(matches!(&found[0], (name, Mismatch::Digest { .. }) if name == "a.txt"), "{found:?}");
    let names = |name: &str, mismatch| (name.to_owned(), mismatch);
    assert_eq!(found[1..], [names("a/b", Mismatch::Missing), names("a/new", Mismatch::Unsigned)]);
    // A file by another letter case is another file.
    fs::rename(at("config.json"), at("Config.json")).unwrap();
    assert!(mismatches().contains(&names("config.json", Mismatch::Missing)));

    let folder = signed();
    fs::write(folder.path().join("new"), "").unwrap();
    let (signature, trust) = (folder.path().join("model.sig"), key("p256"));
    let with =
        |options: VerifyOptions| verify(folder.path(), &signature, &trust, &options).unwrap().mismatches;
    assert_eq!(with(VerifyOptions::default()), [names("new", Mismatch::Unsigned)]);
    assert_eq!(with(VerifyOptions { ignore_unsigned: true, ..VerifyOptions::default() }), []);
    assert_eq!(with(VerifyOptions { ignore: vec!["./new".into()], ..VerifyOptions::default() }), []);
    let absolute = vec![folder.path().join("new")];
    assert_eq!(with(VerifyOptions { ignore: absolute, ..VerifyOptions::default() }), []);
    let signed = VerifyOptions { ignore: vec!["new".into(), "a.txt".into()], ..VerifyOptions::default() };
    assert_eq!(with(signed), [names("a.txt", Mismatch::Missing)]);
    let outside = VerifyOptions { ignore: vec!["../new".into()], ..VerifyOptions::default() };
    let refused = verify(folder.path(), &signature, &trust, &outside);
    assert!(matches!(refused, Err(Error::IgnoreOutside(_))), "{refused:?}");
}

#[test]
fn what_is_left_out_is_recorded_and_told() {
    let folder = signed();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at(".git/objects")).unwrap();
    fs::write(at(".git/objects/x"), "").unwrap();
    fs::write(at(".gitattributes"), "").unwrap();
    let verified = check(folder.path()).unwrap();
    assert_eq!(
        (verified.mismatches, verified.ignored),
        (vec![], vec![".git".to_owned(), ".gitattributes".into()])
    );
    // Only at the top.
    fs::write(at("a/.gitattributes"), "").unwrap();
    assert_eq!(
        check(folder.path()).unwrap().mismatches,
        [("a/.gitattributes".to_owned(), Mismatch::Unsigned)]
    );

    let options =
        SignOptions { signature: at("model.sig"), ignore: vec!["a".into()], ..SignOptions::default() };
    fs::write(at("model.sig"), sign(folder.path(), &private("p256"), &options).unwrap().bundle).unwrap();
    let verified = check(folder.path()).unwrap();
    assert_eq!(verified.files.keys().collect::<Vec<_>>(), ["a b", "a.txt", "config.json"]);
    assert_eq!(
        (verified.mismatches, verified.ignored),
        (vec![], vec![".git".into(), ".gitattributes".into(), "a".into()])
    );
}

#[test]
fn nothing_and_no_folder_cannot_be_signed() {
    let folder = tempfile::tempdir().unwrap();
    let sign = |path: &Path| sign(path, &private("p256"), &SignOptions::default());
    fs::write(folder.path().join(".gitignore"), "").unwrap();
    assert!(matches!(sign(folder.path()), Err(Error::Empty(_))));
    assert!(matches!(sign(&folder.path().join(".gitignore")), Err(Error::NotAFolder(_))));
    assert!(matches!(sign(&folder.path().join("missing")), Err(Error::Io { .. })));
}

#[cfg(unix)]
#[test]
fn links_and_other_strays_are_not_signed_and_do_not_pass() {
    use std::os::unix::fs::symlink;
    let folder = signed();
    let at = |name: &str| folder.path().join(name);
    let sign = || {
        sign(
            folder.path(),
            &private("p256"),
            &SignOptions { signature: at("model.sig"), ..SignOptions::default() },
        )
    };
    for (name, target) in [("link", "config.json"), ("outside", "/dev/null"), ("circle", ".")] {
        symlink(target, at(name)).unwrap();
        assert!(matches!(sign(), Err(Error::Stray { stray: Stray::Link, .. })), "{name}");
        let stray = (name.to_owned(), Mismatch::Stray(Stray::Link));
        assert_eq!(check(folder.path()).unwrap().mismatches, [stray]);
        fs::remove_file(at(name)).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    assert!(matches!(sign(), Err(Error::Stray { stray: Stray::Special, .. })));
    fs::remove_file(at("socket")).unwrap();
    // A signed file in whose place a link to the same bytes came.
    fs::rename(at("config.json"), folder.path().join("a.txt")).unwrap();
    symlink("a.txt", at("config.json")).unwrap();
    let found = check(folder.path()).unwrap().mismatches;
    assert!(found.contains(&("config.json".to_owned(), Mismatch::Stray(Stray::Link))), "{found:?}");
}

#[cfg(unix)]
#[test]
fn names_that_json_cannot_hold_are_not_signed() {
    use std::os::unix::ffi::OsStrExt;
    let folder = signed();
    let name = std::ffi::OsStr::from_bytes(b"\xff");
    // Some file systems have no such names.
    if fs::write(folder.path().join(name), "").is_ok() {
        let refused = sign(folder.path(), &private("p256"), &SignOptions::default());
        assert!(matches!(refused, Err(Error::Stray { stray: Stray::NotUtf8, .. })), "{refused:?}");
        assert_eq!(check(folder.path()).unwrap().mismatches.len(), 1);
    }
}

#[cfg(unix)]
#[test]
fn links_of_a_hugging_face_cache_are_read_as_files() {
    use std::os::unix::fs::symlink;
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("snapshots/0123abcd");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir(cache.path().join("blobs")).unwrap();
    for name in ["config.json", "a.txt"] {
        fs::copy(fixture("model").join(name), cache.path().join("blobs").join(name)).unwrap();
        symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
    }
    resign(&snapshot);
    assert_eq!(check(&snapshot).unwrap().mismatches, []);
    // Elsewhere the same signature, which says that links were followed, covers plain files.
    let plain = tempfile::tempdir().unwrap();
    for name in ["config.json", "a.txt", "model.sig"] {
        fs::copy(snapshot.join(name), plain.path().join(name)).unwrap();
    }
    assert_eq!(check(plain.path()).unwrap().mismatches, []);
    fs::write(cache.path().join("secret"), "").unwrap();
    symlink("../../secret", snapshot.join("secret")).unwrap();
    assert_eq!(check(&snapshot).unwrap().mismatches, [("secret".to_owned(), Mismatch::Stray(Stray::Link))]);
}

/// The model signed under a certificate, and what the roots say to it.
fn certified(chain: &[&str], roots: Roots) -> Result<Verified, Error> {
    let options = SignOptions { certificates: certificates(chain), ..SignOptions::default() };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), sign(&fixture("model"), &private("p256"), &options).unwrap().bundle).unwrap();
    verify(&fixture("model"), file.path(), &Trust::Certificates(roots), &VerifyOptions::default())
}

#[test]
fn certificates_are_checked_up_to_the_root() {
    use CertificateError as E;
    assert_eq!(certified(&["signer", "middle"], roots(&["root"])).unwrap().mismatches, []);
    assert_eq!(certified(&["signer", "middle"], roots(&["stranger", "root"])).unwrap().mismatches, []);
    assert_eq!(certified(&["signer", "root", "middle"], roots(&["root"])).unwrap().mismatches, []);
    assert_eq!(certified(&["signer"], roots(&["middle"])).unwrap().mismatches, []);
    assert_eq!(certified(&["signer"], roots(&["signer"])).unwrap().mismatches, []);

    let refused = |chain: &[&str], roots: Roots| match fault(certified(chain, roots)) {
        Fault::Certificate(error) => error,
        other => panic!("{other:?}"),
    };
    let with = |leaf: &str| refused(&[leaf, "middle"], roots(&["root"]));
    assert!(matches!(with("server"), E::Purpose(_)));
    assert!(matches!(with("purposeless"), E::Purpose(_)));
    assert!(matches!(with("encipherer"), E::Usage { wanted: "signatures", .. }));
    assert!(matches!(with("expired"), E::Time { expired: true, .. }));
    assert!(matches!(with("restricted"), E::Restricted { .. }));
    assert!(matches!(with("authority"), E::Authority(_)));
    assert!(matches!(refused(&["signer"], roots(&["root"])), E::Untrusted(_)));
    assert!(matches!(refused(&["signer", "middle"], roots(&[])), E::Untrusted(_)));
    // Another authority by the same name.
    assert!(matches!(refused(&["signer", "middle"], roots(&["stranger"])), E::Signature(_)));
    // A signer is no authority, also where one is trusted as if it were.
    let below = refused(&["below", "signer", "middle"], roots(&["root"]));
    assert!(matches!(below, E::Usage { wanted: "certificates", .. }), "{below:?}");
    let below = refused(&["below"], roots(&["signer"]));
    assert!(matches!(below, E::Usage { wanted: "certificates", .. }), "{below:?}");
    assert!(matches!(refused(&["signer"; 11], roots(&["root"])), E::TooMany(11)));

    let mut early = roots(&["root"]);
    early.now = SystemTime::UNIX_EPOCH;
    assert!(matches!(refused(&["signer", "middle"], early), E::Time { expired: false, .. }));
    let mut other = roots(&["root"]);
    other.identity = Some("someone@example.org".to_owned());
    assert!(matches!(refused(&["signer", "middle"], other), E::Identity { .. }));
    let options = SignOptions { certificates: certificates(&["signer"]), ..SignOptions::default() };
    let refused = sign(&fixture("model"), &private("p384"), &options);
    assert!(matches!(refused, Err(Error::Key { error: KeyError::OtherKey, .. })), "{refused:?}");
}
