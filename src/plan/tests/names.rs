//! Which tensors, under which names, as which type.

use super::*;

#[test]
fn include_and_exclude_go_by_final_names() {
    let node = || Map(vec![("module.enc.w", T), ("module.enc.b", T), ("module.dec.w", T)]);
    let options = |include: &[&str], exclude: &[&str]| Options {
        include: include.iter().map(ToString::to_string).collect(),
        exclude: exclude.iter().map(ToString::to_string).collect(),
        names: vec![NameRule::StripPrefixAuto],
        ..Options::default()
    };
    let plan = check(node(), &options(&["enc.*"], &["*.b"]), &["enc.w"]);
    assert_eq!(left(&plan), [triple("module.enc.b", 1, "excluded"), triple("module.dec.w", 1, "excluded")]);
    check(node(), &options(&["enc.?", "dec.[w]"], &[]), &["enc.w", "enc.b", "dec.w"]);
    for (include, exclude, flag) in [
        (&["x"][..], &[][..], "--include"),
        (&["enc.*", "x"], &[], "--include"),
        (&[], &["module.*"], "--exclude"),
    ] {
        let error = planned(node(), &options(include, exclude)).unwrap_err();
        assert!(
            matches!(&error, Error::Misuse(Misuse::MatchesNothing { flag: f, .. }) if *f == flag),
            "{error}"
        );
    }
    let error = planned(node(), &options(&[], &["*"])).unwrap_err();
    assert_eq!(error, Misuse::NothingLeft(3).into());
    let error = planned(node(), &options(&["{a"], &[])).unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::BadGlob { flag: "--include", .. })));
}

#[test]
fn exclusion_of_a_whole_place_is_told_as_one() {
    let node = Module(vec![(member("enc"), layer()), (member("dec"), layer())]);
    let plan = check(
        node,
        &Options { exclude: vec!["enc.*".into()], ..Options::default() },
        &["dec.weight", "dec.bias"],
    );
    assert_eq!(left(&plan), [triple("enc", 2, "excluded")]);
}

#[test]
fn wrappers_are_hinted_at_and_peeled_on_request() {
    let node = || Map(vec![("state_dict", Map(vec![("module.a", T), ("module.b", T)])), ("n", V(1))]);
    let plan = check(node(), &Options::default(), &["module.a", "module.b"]);
    assert!(said(&plan).contains("every name begins with module.; --strip-prefix auto takes it off"));
    let plan =
        check(node(), &Options { names: vec![NameRule::StripPrefixAuto], ..Options::default() }, &["a", "b"]);
    assert!(!plan.notes.iter().any(|note| matches!(note, Note::Prefix(_))));
    let names = vec![NameRule::strip_prefix("x.")];
    let error = planned(node(), &Options { names, ..Options::default() }).unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::MatchesNothing { .. })));
}

#[test]
fn two_places_of_one_name_are_an_error_that_shows_both() {
    let path = |steps: &[&str]| steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    let node = Map(vec![("a.b", T), ("a", Map(vec![("b", T)]))]);
    let error = Structure::Collision { name: "a.b".into(), first: path(&["a.b"]), second: path(&["a", "b"]) };
    assert_eq!(planned(node.clone(), &Options::default()), Err(error.into()));
    // Of the same data too: whose name would it be?
    let same = Map(vec![("a.b", Same(1)), ("a", Map(vec![("b", Same(1))]))]);
    assert!(matches!(planned(same, &Options::default()), Err(Error::Structure(Structure::Collision { .. }))));
    check(
        Map(vec![("x1", T), ("y", T)]),
        &Options { names: vec![NameRule::rename("x1=z").unwrap()], ..Options::default() },
        &["z", "y"],
    );
    let names = vec![NameRule::rename("x1=y").unwrap()];
    let error =
        planned(Map(vec![("x1", T), ("y", T)]), &Options { names, ..Options::default() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"two tensors of one name "y": ["x1"] and ["y"]; --rename or --exclude one"#
    );
}

#[test]
fn the_name_of_the_header_is_refused() {
    let error = planned(Map(vec![("__metadata__", T), ("a", T)]), &Options::default()).unwrap_err();
    assert!(matches!(error, Error::Structure(Structure::ReservedName { .. })), "{error}");
}

#[test]
fn a_long_key_shared_by_many_places_is_stopped_before_it_is_spelled() {
    let mut source = Source::default();
    let mut at = source.tree.push(None, Step::Root, Kind::Mapping);
    let key: Box<str> = "k".repeat(1 << 20).into();
    for _ in 0..80 {
        at = source.tree.push(Some(at), Step::Key(key.clone()), Kind::Mapping);
    }
    source.add(Some(at), Step::Key("v".into()), V(1));
    source.add(Some(at), Step::Key("w".into()), T);
    for options in [Options::default(), Options { all: true, metadata: true, ..Options::default() }] {
        let error = source.plan(&options).unwrap_err();
        assert!(matches!(error, Error::Structure(Structure::NamesTooLong { places: 1, .. })), "{error}");
    }
}

// Types

#[test]
fn floats_are_cast_and_nothing_else() {
    let node = || {
        Map(vec![
            ("a", Of(Dtype::F32)),
            ("b", Of(Dtype::F16)),
            ("c", Of(Dtype::I64)),
            ("d", Of(Dtype::F8E4M3)),
            ("e", Of(Dtype::F64)),
            ("f", Of(Dtype::C64)),
        ])
    };
    let cast = |plan: &Plan| plan.tensors.iter().map(|t| t.cast).collect::<Vec<_>>();
    let f16 = Options { dtype: Some(Dtype::F16), ..Options::default() };
    let plan = planned(node(), &f16).unwrap();
    assert_eq!(cast(&plan), [true, false, false, false, true, false]);
    assert_eq!(cast(&planned(node(), &Options::default()).unwrap()), [false; 6]);
    let plan = planned(Map(vec![("a", Of(Dtype::I8))]), &f16).unwrap();
    assert!(plan.notes.contains(&Note::NothingToCast(Dtype::F16)));
    let f64 = Options { dtype: Some(Dtype::F64), ..Options::default() };
    assert_eq!(planned(node(), &f64), Err(Misuse::Uncastable(Dtype::F64).into()));
}

#[test]
fn optimizer_state_and_parts_are_not_cast() {
    let node = Map(vec![("model", linear()), ("optimizer", Map(vec![("state", List(vec![T]))]))]);
    let options = Options { dtype: Some(Dtype::Bf16), all: true, ..Options::default() };
    let plan = planned(node, &options).unwrap();
    assert_eq!(plan.tensors.iter().map(|t| t.cast).collect::<Vec<_>>(), [true, true, false]);
    let mut source = Source::new(Map(vec![("q", Parts(vec![("scale", T)])), ("w", T)]));
    source.tensors[0].encoding = Some(Box::new(scale()));
    let plan = source.plan(&options).unwrap();
    assert_eq!(plan.tensors.iter().map(|t| t.cast).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn strict_refuses_what_is_re_encoded() {
    let strict = Options { strict: true, ..Options::default() };
    let error = planned(Map(vec![("a", Of(Dtype::C128))]), &strict).unwrap_err();
    assert_eq!(error, Refused::Reencoded { name: "a".into() }.into());
    let mut source = Source::new(Map(vec![("q", Parts(vec![("scale", T)]))]));
    source.tensors[0].encoding = Some(Box::new(scale()));
    assert!(matches!(source.plan(&strict), Err(Error::Refused(Refused::Reencoded { .. }))));
    check(Map(vec![("a", Of(Dtype::F4E2M1X2)), ("b", T)]), &strict, &["a", "b"]);
}

// Aliases
