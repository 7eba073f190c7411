//! Tests of the tree.

use super::*;

const HOME: RootId = RootId(1);

fn home() -> Tree {
    let tree = Tree::new(Secret::new([7; 16]));
    tree.add(HOME, "/home".into(), RootKind::Directory, 0o555)
        .unwrap();
    tree
}

fn shown(tree: &Tree) -> Vec<String> {
    let mut names: Vec<_> = tree
        .lock()
        .read(HOME, 2)
        .map(|entry| entry.name.to_string())
        .collect();
    names.sort();
    names
}

fn changed(tree: &Tree) -> Stamp {
    tree.lock().at("/home".into()).unwrap().changed
}

fn look_up(tree: &Tree, name: &str) -> Option<Node> {
    tree.lock().look_up(HOME, name.into())
}

#[test]
fn a_link_appears_and_goes_and_the_directory_changes_with_it() {
    let tree = home();
    let empty = changed(&tree);
    tree.link(HOME, "ann".into(), "/tmp_mnt/home/ann".into())
        .unwrap();
    let linked = changed(&tree);
    assert!(linked > empty);
    assert_eq!(shown(&tree), ["ann"]);
    let ann = look_up(&tree, "ann").unwrap();
    assert_eq!(ann.target, Some("/tmp_mnt/home/ann".into()));
    assert!(tree.unlink(HOME, "ann".into()));
    assert!(!tree.unlink(HOME, "ann".into()), "it led nowhere");
    assert!(changed(&tree) > linked);
    assert!(shown(&tree).is_empty());
    // Its handle stays good, so that who has it asks again.
    let again = tree.lock().find(ann.handle).unwrap();
    assert!(again.hidden && again.target.is_none());
    assert!(again.changed > ann.changed);
}

#[test]
fn a_link_that_leads_elsewhere_has_changed_and_the_directory_has_not() {
    let tree = home();
    tree.link(HOME, "ann".into(), "/one".into()).unwrap();
    let (before, directory) = (look_up(&tree, "ann").unwrap(), changed(&tree));
    tree.link(HOME, "ann".into(), "/one".into()).unwrap();
    assert_eq!(look_up(&tree, "ann").unwrap(), before);
    tree.link(HOME, "ann".into(), "/two".into()).unwrap();
    let after = look_up(&tree, "ann").unwrap();
    assert_eq!(after.handle, before.handle);
    assert!(after.changed > before.changed);
    assert_eq!(changed(&tree), directory);
}

#[test]
fn listed_names_are_shown_and_only_those() {
    let tree = home();
    tree.link(HOME, "linked".into(), "/l".into()).unwrap();
    tree.lock().exists(HOME, "known".into()).unwrap();
    let names = ["ann", "bob", "a/b", "", ".", "..", "x\0"];
    tree.list(HOME, names.map(BStr::new)).unwrap();
    assert_eq!(shown(&tree), ["ann", "bob", "linked"]);
    assert!(look_up(&tree, "known").unwrap().hidden);
    let listed = changed(&tree);
    tree.list(HOME, ["bob", "ann"].map(BStr::new)).unwrap();
    assert_eq!(changed(&tree), listed, "the same names");
    tree.list(HOME, ["linked"].map(BStr::new)).unwrap();
    assert_eq!(shown(&tree), ["linked"]);
    assert!(changed(&tree) > listed);
    assert!(look_up(&tree, "ann").is_none());
    // A listed name stays when its link goes.
    assert!(tree.unlink(HOME, "linked".into()));
    assert_eq!(shown(&tree), ["linked"]);
    tree.list(HOME, []).unwrap();
    assert!(shown(&tree).is_empty() && look_up(&tree, "linked").is_none());
}

#[test]
fn a_root_that_is_a_link_has_one_name() {
    let tree = Tree::new(Secret::new([7; 16]));
    tree.add(HOME, "/usr/man".into(), RootKind::Link, 0)
        .unwrap();
    let root = tree.lock().at("/usr/man".into()).unwrap();
    assert_eq!((root.link, root.target), (Some("".into()), None));
    tree.link(HOME, "".into(), "/tmp_mnt/usr/man".into())
        .unwrap();
    let linked = tree.lock().at("/usr/man".into()).unwrap();
    assert_eq!(linked.target, Some("/tmp_mnt/usr/man".into()));
    assert!(linked.changed > root.changed);
    assert_eq!(tree.links(HOME).len(), 1);
    assert!(tree.unlink(HOME, "".into()));
    assert_eq!(tree.lock().find(linked.handle).unwrap().target, None);
    let refused = Err(TreeError::Name);
    assert_eq!(tree.link(HOME, "x".into(), "/x".into()), refused);
    assert_eq!(tree.list(HOME, []), refused);
}

#[test]
fn handles_outlive_the_tree_and_not_the_root() {
    let first = home();
    first.link(HOME, "ann".into(), "/a".into()).unwrap();
    let ann = look_up(&first, "ann").unwrap().handle;
    // Another life: other numbers, the same names.
    let second = Tree::new(Secret::new([7; 16]));
    let id = RootId(9);
    second
        .add(id, "/home".into(), RootKind::Directory, 0o555)
        .unwrap();
    assert_eq!(second.lock().find(ann), None, "nobody has named it yet");
    second.link(id, "ann".into(), "/b".into()).unwrap();
    let found = second.lock().find(ann).unwrap();
    assert_eq!((found.root, found.target), (id, Some("/b".into())));
    assert!(second.remove(id) && !second.remove(id));
    assert_eq!(second.lock().find(ann), None);
    assert_eq!(
        second.link(id, "x".into(), "/x".into()),
        Err(TreeError::NoRoot)
    );
}

#[test]
fn what_was_looked_at_is_not_idle() {
    let tree = home();
    tree.link(HOME, "ann".into(), "/a".into()).unwrap();
    let node = look_up(&tree, "ann").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let before = tree.links(HOME)[0].idle;
    assert!(before >= Duration::from_millis(20));
    let used = Instant::now();
    tree.lock().used(&node);
    assert!(tree.links(HOME)[0].idle <= used.elapsed());
    assert_eq!(tree.links(HOME)[0].name, "ann");
}

#[test]
fn what_cannot_be_served_is_refused() {
    let tree = home();
    let long = "x".repeat(limits::NAME + 1);
    for name in ["", ".", "..", "a/b", "/", "a\0", &long] {
        let refused = tree.link(HOME, name.into(), "/x".into());
        assert_eq!(refused, Err(TreeError::Name), "{name:?}");
    }
    tree.link(HOME, long[1..].into(), "/x".into()).unwrap();
    let long = "y".repeat(limits::TARGET + 1);
    for target in ["", "a\0", &long] {
        let refused = tree.link(HOME, "a".into(), target.into());
        assert_eq!(refused, Err(TreeError::Target));
    }
    tree.link(HOME, "a".into(), long[1..].into()).unwrap();
    let add = |id, path: &str| tree.add(RootId(id), path.into(), RootKind::Link, 0);
    assert_eq!(add(1, "/other"), Err(TreeError::Taken));
    assert_eq!(add(2, "/home"), Err(TreeError::Taken));
    let long = format!("/{}", "z".repeat(limits::MOUNT_PATH));
    for path in ["", "relative", "/a\0", &long] {
        assert_eq!(add(2, path), Err(TreeError::Name));
    }
    add(2, &long[..limits::MOUNT_PATH]).unwrap();
}

#[test]
fn so_many_roots_and_not_one_more() {
    let tree = home();
    let add = |id: usize| {
        let path = format!("/d/{id}");
        let id = RootId(u32::try_from(id).unwrap());
        tree.add(id, path.as_str().into(), RootKind::Link, 0)
    };
    for id in 2..=limits::ROOTS {
        add(id).unwrap();
    }
    assert_eq!(add(limits::ROOTS + 1), Err(TreeError::TooMany));
}

#[test]
fn so_many_names_and_not_one_more() {
    let tree = home();
    let names: Vec<BString> = (0..=limits::NAMES).map(|n| n.to_string().into()).collect();
    tree.list(HOME, names.iter().map(|name| name.as_bstr()))
        .unwrap();
    assert_eq!(shown(&tree).len(), limits::NAMES);
    let refused = tree.link(HOME, "more".into(), "/x".into());
    assert_eq!(refused, Err(TreeError::TooMany));
    tree.link(HOME, "7".into(), "/x".into()).unwrap();
}

#[test]
fn of_names_that_only_exist_the_oldest_are_forgotten() {
    let tree = home();
    let exists = |name: usize| {
        let name = name.to_string();
        tree.lock().exists(HOME, name.as_str().into()).unwrap();
        look_up(&tree, &name).unwrap().handle
    };
    let first = exists(0);
    let second = exists(1);
    for name in 2..limits::KNOWN {
        exists(name);
    }
    exists(1);
    assert!(tree.lock().find(first).is_some());
    // What is linked meanwhile stays.
    let third = look_up(&tree, "2").unwrap().handle;
    tree.link(HOME, "2".into(), "/x".into()).unwrap();
    for name in 0..3 {
        exists(limits::KNOWN + name);
    }
    let state = tree.lock();
    assert!(state.find(first).is_none() && state.find(second).is_none());
    assert!(state.find(third).is_some());
}

#[test]
fn a_directory_is_read_in_the_same_order_whatever_changes() {
    let tree = home();
    let names: Vec<BString> = (0..100).map(|n| format!("k{n}").into()).collect();
    let list = |names: &[BString]| tree.list(HOME, names.iter().map(|name| name.as_bstr()));
    list(&names).unwrap();
    let read = |after: u64| -> Vec<Entry> { tree.lock().read(HOME, after).collect() };
    let all = read(2);
    assert_eq!(all.len(), 100);
    assert!(all.windows(2).all(|pair| pair[0].cookie < pair[1].cookie));
    assert!(
        all.iter()
            .all(|entry| entry.cookie > 2 && entry.cookie >> 63 == 0)
    );
    // Half was read; of the rest some goes and some comes.
    let half = all[49].cookie;
    let kept: Vec<BString> = all
        .iter()
        .enumerate()
        .filter(|(at, _)| at % 2 == 0)
        .map(|(_, entry)| entry.name.clone())
        .chain(["new".into()])
        .collect();
    list(&kept).unwrap();
    let rest: Vec<BString> = read(half).into_iter().map(|entry| entry.name).collect();
    let expected = all[50..].iter().step_by(2).map(|entry| &entry.name);
    let known: Vec<&BString> = rest.iter().filter(|name| **name != "new").collect();
    assert_eq!(known, expected.collect::<Vec<_>>());
}
