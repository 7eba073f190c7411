//! The worked examples of the founding documents: each must parse and resolve as shown. Tests
//! are named after the requirement they prove; entries are written as the documents have them.

use std::collections::BTreeMap;

use bstr::{BString, ByteSlice};
use piton_map::dialect::Dialect;
use piton_map::index::{MapIndex, Step as SearchStep};
use piton_map::key::MapKind;
use piton_map::options::PointOptions;
use piton_map::requester::Requester;
use piton_map::text::Fragment;
use piton_plan::facts::{HostAnswer, HostAnswers, HostFacts, Interface};
use piton_plan::step::{TriggerKind, What};
use piton_plan::{Action, Plan, PlanRequest, Planning};

/// A site with one map, in the dialect `sun`.
struct Site {
    map: &'static str,
    mount_point: &'static str,
    options: &'static [&'static str],
    addresses: BTreeMap<&'static str, &'static str>,
}

fn indirect(mount_point: &'static str, map: &'static str) -> Site {
    Site {
        map,
        mount_point,
        options: &[],
        addresses: BTreeMap::new(),
    }
}

fn direct(map: &'static str) -> Site {
    indirect("", map)
}

impl Site {
    fn with_options(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    fn with_hosts(mut self, hosts: &[(&'static str, &'static str)]) -> Self {
        self.addresses.extend(hosts.iter().copied());
        self
    }

    fn facts(&self) -> HostFacts {
        HostFacts {
            hostname: "desk.example.org".into(),
            os_name: "Linux".into(),
            machine: "sun4".into(),
            interfaces: vec![Interface::new("10.1.1.1".parse().unwrap(), 24)],
            ..HostFacts::default()
        }
    }

    fn planning(&self, key: &str) -> Option<Planning> {
        let dialect = Dialect::SUN;
        let kind = if self.mount_point.is_empty() {
            MapKind::Direct
        } else {
            MapKind::Indirect
        };
        let (index, findings) = MapIndex::new(Fragment::whole("map", self.map), kind, &dialect);
        assert_eq!(findings, [], "the map as a whole");
        let found = index.search(key.into()).find_map(|step| match step {
            SearchStep::Found(found) => Some(found),
            SearchStep::Include(_) => None,
        })?;
        let options = PointOptions {
            mount: self
                .options
                .iter()
                .map(|option| BString::from(*option))
                .collect(),
            ..PointOptions::default()
        };
        Some(piton_plan::plan(&PlanRequest {
            found: &found,
            key: key.into(),
            mount_point: if self.mount_point.is_empty() {
                key
            } else {
                self.mount_point
            }
            .into(),
            kind: match kind {
                MapKind::Direct => TriggerKind::Direct,
                MapKind::Indirect => TriggerKind::Indirect,
            },
            options: &options,
            global_options: &[],
            append_options: true,
            dialect: &dialect,
            requester: &Requester::default(),
            facts: &self.facts(),
        }))
    }

    fn plan(&self, key: &str) -> Plan {
        let planning = self
            .planning(key)
            .unwrap_or_else(|| panic!("{key} is not found"));
        planning
            .plan
            .unwrap_or_else(|| panic!("{key}: {:?}", planning.diagnostics))
    }

    /// Every mount of a key as `target type options source…`, sources best first.
    fn mounts(&self, key: &str) -> Vec<String> {
        let plan = self.plan(key);
        let answers: HostAnswers = self
            .addresses
            .iter()
            .map(|(host, address)| {
                let addresses = vec![address.parse().unwrap()];
                (BString::from(*host), HostAnswer { addresses })
            })
            .collect();
        let mut mounts = Vec::new();
        for (number, node) in plan.nodes.iter().enumerate() {
            let Action::Mount(mount) = &node.action else {
                continue;
            };
            let name = match &mount.what {
                What::Bind { .. } => "bind".into(),
                What::Type(name) => name.to_string(),
            };
            let options = bstr::join(",", &mount.options).to_str_lossy().into_owned();
            let options = if options.is_empty() {
                "-".into()
            } else {
                options
            };
            let mut line = format!("{} {name} {options}", node.target);
            for attempt in plan.attempts_unasked(number, &self.facts(), &answers, 0) {
                line += &format!(" {}", attempt.source);
            }
            mounts.push(line);
        }
        mounts
    }
}

#[test]
fn r_112_options_of_an_entry_replace_those_of_the_map() {
    let site = indirect("/home", "a srv:/a\nb -ro srv:/b\nc -fstype=nfs4 srv:/c\n")
        .with_options(&["soft", "nosuid"]);
    assert_eq!(site.mounts("a"), ["/home/a nfs soft,nosuid srv:/a"]);
    assert_eq!(site.mounts("b"), ["/home/b nfs ro srv:/b"]);
    assert_eq!(site.mounts("c"), ["/home/c nfs4 - srv:/c"]);
}

#[test]
fn r_134_a_local_device_needs_no_host() {
    let site = indirect("/m", "disk -fstype=ext4 :/dev/sdb1\n");
    assert_eq!(site.mounts("disk"), ["/m/disk ext4 - /dev/sdb1"]);
}

#[test]
fn r_141_r_145_weights_among_equals() {
    let site = indirect(
        "/usr/share",
        "man -ro alpha,bravo,charlie(1),delta(4):/usr/share/man\n",
    );
    assert_eq!(
        site.mounts("man"),
        [
            "/usr/share/man nfs ro alpha:/usr/share/man bravo:/usr/share/man charlie:/usr/share/man \
          delta:/usr/share/man"
        ]
    );
}

#[test]
fn r_146_proximity_beats_weight() {
    let site = indirect(
        "/usr/share",
        "man -ro alpha,bravo,charlie(1),delta(4):/usr/share/man\n",
    )
    .with_hosts(&[
        ("alpha", "192.0.2.1"),
        ("bravo", "10.9.9.9"),
        ("charlie", "10.9.9.8"),
        ("delta", "10.1.1.9"),
    ]);
    assert_eq!(
        site.mounts("man"),
        [
            "/usr/share/man nfs ro delta:/usr/share/man bravo:/usr/share/man charlie:/usr/share/man \
          alpha:/usr/share/man"
        ]
    );
}

#[test]
fn r_148_weights_with_different_paths() {
    let map = "man -ro alpha:/usr/man bravo,charlie(1):/usr/share/man delta(3):/export/man\n";
    assert_eq!(
        indirect("/usr/share", map).mounts("man"),
        [
            "/usr/share/man nfs ro alpha:/usr/man bravo:/usr/share/man charlie:/usr/share/man \
          delta:/export/man"
        ]
    );
}

#[test]
fn r_150_ampersand_is_the_key() {
    let site = indirect("/home", "amy rowboatserver:/home/&\n");
    assert_eq!(
        site.mounts("amy"),
        ["/home/amy nfs - rowboatserver:/home/amy"]
    );
}

#[test]
fn r_151_what_stands_below_the_wildcard_is_dead() {
    let (index, findings) = MapIndex::new(
        Fragment::whole("map", "* srv:/star/&\na srv:/a\n"),
        MapKind::Indirect,
        &Dialect::SUN,
    );
    assert!(!findings.is_empty());
    let found = index.search("a".into()).next();
    assert!(matches!(found, Some(SearchStep::Found(found)) if found.value.start == 2));
}

#[test]
fn r_152_the_wildcard_and_the_key_as_host() {
    let site = indirect("/config", "* &:/export/config/&\n");
    assert_eq!(
        site.mounts("hermes"),
        ["/config/hermes nfs - hermes:/export/config/hermes"]
    );
}

#[test]
fn r_153_r_155_variables() {
    let site = indirect("/m", "a srv:/$OSNAME/${HOST}x\n");
    assert_eq!(
        site.mounts("a"),
        ["/m/a nfs - srv:/Linux/desk.example.orgx"]
    );
}

#[test]
fn r_163_multiple_mounts_in_one_line() {
    let map = "beta -ro / svr1,svr2:/export/src/beta /1.0 svr1,svr2:/export/src/beta/1.0 \
               /1.0/man svr1,svr2:/export/src/beta/1.0/man\n";
    let site = indirect("/src", map);
    assert_eq!(
        site.mounts("beta"),
        [
            "/src/beta nfs ro svr1:/export/src/beta svr2:/export/src/beta",
            "/src/beta/1.0 nfs ro svr1:/export/src/beta/1.0 svr2:/export/src/beta/1.0",
            "/src/beta/1.0/man nfs ro svr1:/export/src/beta/1.0/man svr2:/export/src/beta/1.0/man",
        ]
    );
    let plan = site.plan("beta");
    assert_eq!(plan.children(0).collect::<Vec<_>>(), [1]);
    assert_eq!(plan.children(1).collect::<Vec<_>>(), [2]);
}

#[test]
fn r_163_the_nearest_answers_first() {
    let site = indirect("/src", "beta -ro / svr1,svr2:/export/src/beta\n")
        .with_hosts(&[("svr1", "192.0.2.1"), ("svr2", "10.1.1.2")]);
    assert_eq!(
        site.mounts("beta"),
        ["/src/beta nfs ro svr2:/export/src/beta svr1:/export/src/beta"]
    );
}

#[test]
fn r_168_a_cd() {
    let site = indirect("/m", "cdrom -fstype=hsfs,ro :/dev/sr0\n");
    assert_eq!(site.mounts("cdrom"), ["/m/cdrom iso9660 ro /dev/sr0"]);
    let planning = site.planning("cdrom").unwrap();
    assert_eq!(planning.diagnostics[0].code, "translated-fstype");
}

#[test]
fn r_169_an_autofs_mount_from_inside_a_map() {
    let plan = indirect("/src", "src -fstype=autofs auto_src\n").plan("src");
    let Action::Submount(submount) = &plan.nodes[0].action else {
        panic!("{plan:?}")
    };
    assert_eq!(submount.map.name, "auto_src");
    assert_eq!(plan.nodes[0].target, "/src/src");
}

#[test]
fn r_170_cachefs_for_a_whole_map() {
    let site = indirect("/home", "ann srv:/home/ann\nbob -ro srv:/home/bob\n")
        .with_options(&["fstype=cachefs", "backfstype=nfs"]);
    assert_eq!(site.mounts("ann"), ["/home/ann nfs fsc srv:/home/ann"]);
    assert_eq!(site.mounts("bob"), ["/home/bob nfs ro srv:/home/bob"]);
}

#[test]
fn r_235_r_237_a_sub_directory_of_what_is_mounted() {
    let site = indirect(
        "/home",
        "mike hpserver1:/home/hpserver1:&\ndianna hpserver1:/home/hpserver1:dianna\n\
         ann hpserver1:/home/hpserver1/ann\n",
    );
    assert_eq!(
        site.mounts("mike"),
        ["/home/mike nfs - hpserver1:/home/hpserver1/mike"]
    );
    assert_eq!(
        site.mounts("dianna"),
        ["/home/dianna nfs - hpserver1:/home/hpserver1/dianna"]
    );
    assert_eq!(
        site.mounts("ann"),
        ["/home/ann nfs - hpserver1:/home/hpserver1/ann"]
    );
}

#[test]
fn r_238_every_host() {
    assert_eq!(
        indirect("/net", "* &:/home/&\n").mounts("h1"),
        ["/net/h1 nfs - h1:/home/h1"]
    );
}

#[test]
fn r_239_r_241_a_hierarchy_with_the_first_slash() {
    let map = "/usr/local \\\n / -ro,intr shasta:/usr/local ranier:/usr/local \\\n \
               /bin -ro,intr ranier:/usr/local/bin shasta:/usr/local/bin \\\n \
               /man -ro,intr shasta:/usr/local/man ranier:/usr/local/man\n";
    let expected = [
        "/usr/local nfs ro,intr shasta:/usr/local ranier:/usr/local",
        "/usr/local/bin nfs ro,intr ranier:/usr/local/bin shasta:/usr/local/bin",
        "/usr/local/man nfs ro,intr shasta:/usr/local/man ranier:/usr/local/man",
    ];
    assert_eq!(direct(map).mounts("/usr/local"), expected);
}

#[test]
fn r_241_the_same_pasted_into_one_line() {
    let map = "/usr/local \\ / -ro,intr shasta:/usr/local ranier:/usr/local \\ \
               /bin -ro,intr ranier:/usr/local/bin shasta:/usr/local/bin\n";
    let expected = [
        "/usr/local nfs ro,intr shasta:/usr/local ranier:/usr/local",
        "/usr/local/bin nfs ro,intr ranier:/usr/local/bin shasta:/usr/local/bin",
    ];
    assert_eq!(direct(map).mounts("/usr/local"), expected);
}

#[test]
fn r_308_the_sample_of_auto_home() {
    let site = indirect(
        "/home",
        "# Home directory map for automounter\n#\njdoe        orem:/store/home/jdoe\n\
         sdoe       orem:/store/home/sdoe\nkdoe -bg srv-ss10:/home/kdoe\n",
    );
    assert_eq!(
        site.mounts("jdoe"),
        ["/home/jdoe nfs - orem:/store/home/jdoe"]
    );
    assert_eq!(
        site.mounts("sdoe"),
        ["/home/sdoe nfs - orem:/store/home/sdoe"]
    );
    assert_eq!(
        site.mounts("kdoe"),
        ["/home/kdoe nfs - srv-ss10:/home/kdoe"]
    );
    let planning = site.planning("kdoe").unwrap();
    assert_eq!(planning.diagnostics[0].code, "background-mount");
}

#[test]
fn r_309_the_decisions_can_be_told() {
    let planning = indirect("/home", "jdoe orem:/store/home/&\n")
        .planning("jdoe")
        .unwrap();
    let told: Vec<&str> = planning
        .trace
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "the key `jdoe` is in map",
            "& is the key, `jdoe`",
            "in dialect sun options of an entry replace those of its map",
            "/ is nfs from 1 server, no options",
        ]
    );
    let origin = planning.trace[1].origin.as_ref().unwrap();
    assert_eq!(origin.to_string(), "map:1:23");
}

#[test]
fn r_314_r_320_direct_entries_with_leading_blanks() {
    let site = direct(
        "/usr/pubsw/man  orem:/internal/opt/man\n/usr/doc        orem:/internal/httpd/htdocs\n  \
         /var/mail burbank:/var/mail\n",
    );
    assert_eq!(
        site.mounts("/usr/pubsw/man"),
        ["/usr/pubsw/man nfs - orem:/internal/opt/man"]
    );
    assert_eq!(
        site.mounts("/usr/doc"),
        ["/usr/doc nfs - orem:/internal/httpd/htdocs"]
    );
    assert_eq!(
        site.mounts("/var/mail"),
        ["/var/mail nfs - burbank:/var/mail"]
    );
}

#[test]
fn r_423_r_428_users_with_tabs_and_no_regularity() {
    let site = indirect(
        "/home",
        "stern\t\tsunrise:/export/stern\nsue\t\tdivi:/export/sue\n\
         frank\t\tmonmouth:/export/home/frank\ndarren\t\tsatire:/local/darren\n",
    );
    assert_eq!(
        site.mounts("stern"),
        ["/home/stern nfs - sunrise:/export/stern"]
    );
    assert_eq!(site.mounts("sue"), ["/home/sue nfs - divi:/export/sue"]);
    assert_eq!(
        site.mounts("frank"),
        ["/home/frank nfs - monmouth:/export/home/frank"]
    );
    assert_eq!(
        site.mounts("darren"),
        ["/home/darren nfs - satire:/local/darren"]
    );
}

#[test]
fn r_426_direct_entries_with_options() {
    let site = direct(
        "/var/mail       mailhub:/var/mail\n/usr/share/man  -ro shareserver:/usr/share/man\n\
         /usr/local/bin  -ro shareserver:/usr/local/bin\n",
    );
    assert_eq!(
        site.mounts("/var/mail"),
        ["/var/mail nfs - mailhub:/var/mail"]
    );
    assert_eq!(
        site.mounts("/usr/share/man"),
        ["/usr/share/man nfs ro shareserver:/usr/share/man"]
    );
    assert_eq!(
        site.mounts("/usr/local/bin"),
        ["/usr/local/bin nfs ro shareserver:/usr/local/bin"]
    );
}

#[test]
fn r_429_a_name_not_in_the_map_is_not_found() {
    assert!(
        indirect("/home", "stern sunrise:/export/stern\n")
            .planning("nobody")
            .is_none()
    );
}

#[test]
fn r_433_default_entries() {
    let site = indirect(
        "/home",
        "fred\tsuitcase:/export/fred\nnancy\tsuitcase:/export/nancy\n*\thomebase:/export/&\n",
    );
    assert_eq!(
        site.mounts("fred"),
        ["/home/fred nfs - suitcase:/export/fred"]
    );
    assert_eq!(
        site.mounts("thurlow"),
        ["/home/thurlow nfs - homebase:/export/thurlow"]
    );
}

#[test]
fn r_435_a_hierarchy_of_three_servers() {
    let map = "/usr/local \\\n\t/\ttoolbox:/export/local \\\n\t/bin\ttoolbox:/export/local/sun4/bin \
               \\\n\t/man\tdocubox:/work/man \\\n\t/lib\tbuildserv:/projects/lib \n";
    let site = direct(map);
    assert_eq!(
        site.mounts("/usr/local"),
        [
            "/usr/local nfs - toolbox:/export/local",
            "/usr/local/bin nfs - toolbox:/export/local/sun4/bin",
            "/usr/local/lib nfs - buildserv:/projects/lib",
            "/usr/local/man nfs - docubox:/work/man",
        ]
    );
    assert_eq!(site.plan("/usr/local").children(0).count(), 3);
}

#[test]
fn r_436_r_437_the_architecture_picks_the_directory() {
    let site = direct("/usr/local / toolbox:/export/local /bin toolbox:/export/local/$ARCH/bin\n");
    assert_eq!(
        site.mounts("/usr/local")[1],
        "/usr/local/bin nfs - toolbox:/export/local/sun4/bin"
    );
    assert_eq!(
        indirect("/m", "a srv:/$OS\n").mounts("a"),
        ["/m/a nfs - srv:/Linux"]
    );
}
