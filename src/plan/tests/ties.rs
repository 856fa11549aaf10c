//! Tensors of one storage.

use super::*;

fn tied() -> Node {
    Map(vec![("wte", Same(1)), ("x", T), ("head", Same(1)), ("format", Same(1))])
}

#[test]
fn auto_copies_unless_the_layout_ties() {
    let plan = check(tied(), &Options::default(), &["wte", "x", "head", "format"]);
    let aliased = |names, bytes| Aliased { names, bytes, first: "head".into(), of: "wte".into() };
    assert!(plan.notes.contains(&Note::AliasesCopied(aliased(2, 16))));
    assert_eq!(plan.metadata, BTreeMap::from([("format".into(), "pt".into())]));

    let plan = check(tied(), &Options { prefer_once: true, ..Options::default() }, &["wte", "x", "format"]);
    assert!(plan.notes.contains(&Note::AliasesOnce(aliased(1, 8))));
    let copy = Options { prefer_once: true, aliases: Aliases::Copy, ..Options::default() };
    check(tied(), &copy, &["wte", "x", "head", "format"]);
}

#[test]
fn once_records_the_dropped_name_and_copies_a_reserved_one() {
    let plan =
        check(tied(), &Options { aliases: Aliases::Once, ..Options::default() }, &["wte", "x", "format"]);
    assert_eq!(plan.aliases.len(), 1);
    assert_eq!((&*plan.aliases[0].name, plan.aliases[0].of), ("head", 0));
    let metadata = [("format", "pt"), ("head", "wte")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(plan.metadata, BTreeMap::from(metadata));
}

#[test]
fn refuse_names_the_pair() {
    let error = planned(tied(), &Options { aliases: Aliases::Refuse, ..Options::default() }).unwrap_err();
    assert_eq!(error, Refused::Alias { name: "head".into(), of: "wte".into() }.into());
}

#[test]
fn only_equal_views_are_aliases() {
    let mut source = Source::new(Map(vec![("a", Same(1)), ("b", T), ("c", T), ("empty", T), ("empty2", T)]));
    let view = source.tensors[0].view.clone();
    let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, 64) };
    let data = Storage { key: "0".into(), entry: None, place, len: 64, big_endian: false, crc32: None };
    let spec = |offset, shape: i64| ViewSpec {
        dtype: Dtype::F32,
        family: Family::Torch,
        offset,
        shape: vec![shape],
        strides: vec![1],
        negated: false,
        conjugated: false,
    };
    let other = |spec| View::new(view.storage(), &data, &spec, &Limits::default()).unwrap();
    source.tensors[1].view = other(spec(1, 2));
    source.tensors[2].view = other(spec(0, 3));
    source.tensors[3].view = other(spec(0, 0));
    source.tensors[4].view = other(spec(0, 0));
    let refuse = Options { aliases: Aliases::Refuse, ..Options::default() };
    assert_eq!(source.plan(&refuse).unwrap().tensors.len(), 5);
    // Two handles of one view are aliases as well as one handle at two places.
    source.tensors[1].view = view;
    assert!(source.plan(&refuse).is_err());
    source.tensors[1].encoding = Some(Box::new(scale()));
    assert!(source.plan(&refuse).is_ok());
}

#[test]
fn an_alias_outside_of_what_is_written_is_none() {
    let node = || Map(vec![("ema", Map(vec![("a", Same(1))])), ("state_dict", Map(vec![("a", Same(1))]))]);
    let plan = planned(node(), &Options { aliases: Aliases::Once, ..Options::default() }).unwrap();
    assert_eq!((names(&plan), plan.aliases.len()), (vec!["a"], 0));
    // A cast copy cannot stand for one that is to stay as it is.
    let options =
        Options { aliases: Aliases::Once, all: true, dtype: Some(Dtype::F16), ..Options::default() };
    let node =
        Map(vec![("model", Map(vec![("a", Same(1)), ("b", Same(1))])), ("optimizer", List(vec![Same(1)]))]);
    let plan = check(node, &options, &["model.a", "optimizer.0"]);
    let aliased = Aliased { names: 1, bytes: 4, first: "model.b".into(), of: "model.a".into() };
    assert!(plan.notes.contains(&Note::AliasesOnce(aliased)));
}

#[test]
fn a_million_tensors_take_linear_time() {
    let mut source = Source::default();
    let top = source.tree.push(None, Step::Root, Kind::Mapping);
    let dict = source.tree.push(Some(top), Step::Key("state_dict".into()), Kind::Mapping);
    for i in 0..1_000_000_u32 {
        let tensor = if i % 2 == 0 { source.tensor(i, Dtype::F32) } else { TensorId(i / 2) };
        source.tree.push(
            Some(dict),
            Step::Key(format!("module.layer.{i}").into()),
            Kind::Leaf(Leaf::Tensor(tensor)),
        );
    }
    let options = Options {
        aliases: Aliases::Once,
        names: vec![NameRule::StripPrefixAuto, NameRule::rename(r"^layer\.=h.").unwrap()],
        exclude: vec!["h.7".into()],
        ..Options::default()
    };
    let start = std::time::Instant::now();
    let plan = plan(&source.tree, &source.tensors, &options).unwrap();
    assert_eq!((plan.tensors.len() + plan.aliases.len(), plan.left_out.len()), (999_999, 1));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
