//! Users, roles and what they may do, as etcd judges it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::api::authpb::permission::Type;
use crate::api::authpb::{Permission, UserAddOptions};
use crate::api::coraclepb::Authenticate;
use crate::api::etcdserverpb as pb;
use crate::backend::{Backend, BackendOptions};
use crate::error::{Code, Error};
use crate::mvcc::KeyRange;
use crate::platform::MemoryDisk;

fn backend() -> Arc<Backend> {
    let disk = Arc::new(MemoryDisk::default());
    Arc::new(Backend::open(disk, BackendOptions::default()).unwrap())
}

fn store() -> AuthStore {
    AuthStore::open(backend()).unwrap()
}

fn add_user(store: &AuthStore, name: &str) -> Result<(), Error> {
    let (name, hashed_password) = (name.to_owned(), format!("hash of {name}'s"));
    store.user_add(pb::AuthUserAddRequest { name, hashed_password, ..Default::default() })
}

fn add_role(store: &AuthStore, name: &str) -> Result<(), Error> {
    store.role_add(pb::AuthRoleAddRequest { name: name.to_owned() })
}

fn grant_role(store: &AuthStore, user: &str, role: &str) -> Result<(), Error> {
    let (user, role) = (user.to_owned(), role.to_owned());
    store.user_grant_role(pb::AuthUserGrantRoleRequest { user, role })
}

fn permission(kind: Type, key: &str, end: &str) -> Permission {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    Permission { perm_type: kind as i32, key, range_end }
}

fn grant(store: &AuthStore, role: &str, perm: Permission) -> Result<(), Error> {
    let (name, perm) = (role.to_owned(), Some(perm));
    store.role_grant_permission(pb::AuthRoleGrantPermissionRequest { name, perm })
}

fn revoke(store: &AuthStore, role: &str, key: &str, end: &str) -> Result<(), Error> {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    let role = role.to_owned();
    store.role_revoke_permission(&pb::AuthRoleRevokePermissionRequest { role, key, range_end })
}

fn delete_user(store: &AuthStore, name: &str) -> Result<(), Error> {
    store.user_delete(&pb::AuthUserDeleteRequest { name: name.to_owned() })
}

fn delete_role(store: &AuthStore, role: &str) -> Result<(), Error> {
    store.role_delete(&pb::AuthRoleDeleteRequest { role: role.to_owned() })
}

fn revoke_role(store: &AuthStore, name: &str, role: &str) -> Result<(), Error> {
    let (name, role) = (name.to_owned(), role.to_owned());
    store.user_revoke_role(&pb::AuthUserRevokeRoleRequest { name, role })
}

/// A store with root, on, where alice has the roles of `permissions`.
fn enabled(permissions: &[&[Permission]]) -> AuthStore {
    let store = store();
    add_user(&store, "root").unwrap();
    grant_role(&store, "root", "root").unwrap();
    add_user(&store, "alice").unwrap();
    for (number, permissions) in permissions.iter().enumerate() {
        let role = format!("role{number}");
        add_role(&store, &role).unwrap();
        grant_role(&store, "alice", &role).unwrap();
        for permission in *permissions {
            grant(&store, &role, permission.clone()).unwrap();
        }
    }
    store.enable().unwrap();
    store
}

fn user(store: &AuthStore, name: &str) -> Identity {
    Identity::User { name: name.to_owned(), revision: store.revision() }
}

#[test]
fn auth_01_enabling_needs_root_with_its_role() {
    let store = store();
    assert_eq!(store.enable(), Err(Error::RootUserNotExist));
    add_user(&store, "root").unwrap();
    assert_eq!(store.enable(), Err(Error::RootRoleNotExist));
    grant_role(&store, "root", "root").expect("the role root is granted without being there");
    assert_eq!(store.enable(), Ok(()));
    assert_eq!(store.enable(), Ok(()), "a second time too");
    assert!(store.is_enabled());
}

#[test]
fn auth_04_every_change_is_a_revision() {
    let store = store();
    assert_eq!(store.revision(), 1);
    let changes: [&dyn Fn(); 9] = [
        &|| add_user(&store, "a").unwrap(),
        &|| add_role(&store, "r").unwrap(),
        &|| grant_role(&store, "a", "r").unwrap(),
        &|| grant(&store, "r", permission(Type::Read, "k", "")).unwrap(),
        &|| grant(&store, "r", permission(Type::Read, "k", "")).unwrap(),
        &|| revoke(&store, "r", "k", "").unwrap(),
        &|| revoke_role(&store, "a", "r").unwrap(),
        &|| delete_role(&store, "r").unwrap(),
        &|| delete_user(&store, "a").unwrap(),
    ];
    for (done, change) in changes.into_iter().enumerate() {
        change();
        assert_eq!(store.revision(), done as u64 + 2, "change {done}");
    }
    let revision = store.revision();
    assert!(add_user(&store, "").is_err() && delete_user(&store, "nobody").is_err());
    store.disable();
    assert_eq!(store.revision(), revision, "nothing changed");
    let store = enabled(&[]);
    let revision = store.revision();
    store.disable();
    assert_eq!(store.revision(), revision + 1, "switching off is a change");
}

#[test]
fn auth_05_permissions_are_united_over_ranges_and_roles() {
    let read = |key, end| permission(Type::Read, key, end);
    let store = enabled(&[
        &[read("a", "c"), read("c", "e"), permission(Type::Write, "a", "b"), read("p", "")],
        &[read("d", "h"), permission(Type::Readwrite, "x", "\0"), read("p\0", "q")],
    ]);
    let alice = user(&store, "alice");
    let rights = store.current_rights(&alice).unwrap().expect("alice is no administrator");
    for (key, end, may_read, may_write) in [
        ("a", "", true, true),
        ("b", "", true, false),
        ("a", "b", true, true),
        ("a", "c", true, false),
        ("a", "h", true, false),
        ("a", "h\0", false, false),
        ("h", "", false, false),
        ("`", "c", false, false),
        ("a", "\0", false, false),
        ("x", "\0", true, true),
        ("xyz", "", true, true),
        ("y", "\0", true, true),
        ("w", "\0", false, false),
        // A single key and the range that begins at the next possible one are one range.
        ("p", "q", true, false),
        // Ranges that end before they begin hold nothing, and need a place all the same.
        ("c", "b", true, false),
        ("c", "a", false, false),
        ("z", "a", false, false),
    ] {
        let range = KeyRange::new(key.as_bytes(), end.as_bytes());
        assert_eq!(rights.may_read(&range), may_read, "reading {key:?} to {end:?}");
        assert_eq!(rights.may_write(&range), may_write, "writing {key:?} to {end:?}");
    }
    for (key, end) in [("", ""), ("", "b"), ("b", "a"), ("b", "b")] {
        let refused = grant(&store, "role0", permission(Type::Read, key, end));
        assert_eq!(refused, Err(Error::InvalidAuthMgmt), "{key:?} to {end:?}");
    }
    let nothing = pb::AuthRoleGrantPermissionRequest { name: "role0".to_owned(), perm: None };
    assert_eq!(store.role_grant_permission(nothing), Err(Error::PermissionNotGiven));
}

#[test]
fn auth_05_granting_a_range_again_replaces_its_type() {
    let store = enabled(&[&[
        permission(Type::Read, "a", "c"),
        permission(Type::Write, "a", "b"),
        permission(Type::Read, "a", ""),
    ]]);
    grant(&store, "role0", permission(Type::Readwrite, "a", "b")).unwrap();
    let held = store.role_permissions("role0").unwrap();
    let held = held.iter().map(|permission| (permission.range_end.clone(), permission.perm_type()));
    let expected = [("c", Type::Read), ("b", Type::Readwrite), ("", Type::Read)];
    assert_eq!(held.collect::<Vec<_>>(), expected.map(|(end, kind)| (end.into(), kind)));
}

#[test]
fn auth_07_an_identity_of_an_earlier_revision_is_refused() {
    let store = enabled(&[&[permission(Type::Read, "a", "")]]);
    let alice = user(&store, "alice");
    let a = KeyRange::Key(b"a");
    assert_eq!(store.check_read(&alice, &a), Ok(()));
    revoke(&store, "role0", "a", "").unwrap();
    assert_eq!(store.check_read(&alice, &a), Err(Error::AuthOldRevision));
    assert_eq!(store.check_unchanged(&alice), Err(Error::AuthOldRevision));
    let alice = user(&store, "alice");
    assert_eq!(store.check_read(&alice, &a), Err(Error::PermissionDenied));
    assert_eq!(store.check_unchanged(&alice), Ok(()));
    let root = user(&store, "root");
    add_user(&store, "bob").unwrap();
    assert_eq!(store.check_admin(&root), Ok(()), "root's own change does not make root powerless");
}

#[test]
fn auth_08_root_keeps_its_power_while_authentication_is_on() {
    let store = enabled(&[]);
    add_role(&store, "root").unwrap();
    assert_eq!(delete_user(&store, "root"), Err(Error::InvalidAuthMgmt));
    assert_eq!(delete_role(&store, "root"), Err(Error::InvalidAuthMgmt));
    assert_eq!(revoke_role(&store, "root", "root"), Err(Error::InvalidAuthMgmt));
    store.disable();
    assert_eq!(revoke_role(&store, "root", "root"), Ok(()));
    assert_eq!(delete_role(&store, "root"), Ok(()));
    assert_eq!(delete_user(&store, "root"), Ok(()));
}

#[test]
fn auth_09_other_errors_and_order() {
    let store = store();
    assert_eq!(add_user(&store, ""), Err(Error::UserEmpty));
    assert_eq!(add_role(&store, ""), Err(Error::RoleEmpty));
    for name in ["b", "a"] {
        add_user(&store, name).unwrap();
        add_role(&store, name).unwrap();
    }
    assert_eq!(add_user(&store, "a"), Err(Error::UserAlreadyExist));
    assert_eq!(add_role(&store, "a"), Err(Error::RoleAlreadyExist));
    assert_eq!(delete_user(&store, "x"), Err(Error::UserNotFound));
    assert_eq!(delete_role(&store, "x"), Err(Error::RoleNotFound));
    assert_eq!(grant_role(&store, "x", "a"), Err(Error::UserNotFound));
    assert_eq!(grant_role(&store, "a", "x"), Err(Error::RoleNotFound));
    assert_eq!(revoke_role(&store, "x", "a"), Err(Error::UserNotFound));
    assert_eq!(revoke_role(&store, "a", "a"), Err(Error::RoleNotGranted));
    assert_eq!(revoke(&store, "x", "k", ""), Err(Error::RoleNotFound));
    assert_eq!(revoke(&store, "a", "k", ""), Err(Error::PermissionNotGranted));
    assert_eq!(grant(&store, "x", permission(Type::Read, "k", "")), Err(Error::RoleNotFound));
    assert_eq!(store.user_roles("x"), Err(Error::UserNotFound));
    assert_eq!(store.role_permissions("x"), Err(Error::RoleNotFound));
    let change = pb::AuthUserChangePasswordRequest { name: "x".to_owned(), ..Default::default() };
    assert_eq!(store.user_change_password(change), Err(Error::UserNotFound));

    grant_role(&store, "a", "b").unwrap();
    grant_role(&store, "a", "a").unwrap();
    let revision = store.revision();
    assert_eq!(grant_role(&store, "a", "b"), Ok(()));
    assert_eq!(store.revision(), revision, "granted already: no change");
    assert_eq!(store.user_roles("a").unwrap(), ["a", "b"]);
    assert_eq!((store.users(), store.roles()), (vec!["a".into(), "b".into()], store.users()));
    delete_role(&store, "b").unwrap();
    assert_eq!(store.user_roles("a").unwrap(), ["a"], "a deleted role is nobody's");
}

#[test]
fn auth_02_who_may_log_in() {
    let store = enabled(&[]);
    let options = Some(UserAddOptions { no_password: true });
    let name = "certificate".to_owned();
    store.user_add(pb::AuthUserAddRequest { name, options, ..Default::default() }).unwrap();
    assert_eq!(store.password_hash("nobody"), Err(Error::AuthFailed));
    let refused = store.password_hash("certificate").expect_err("no password");
    assert_eq!(refused.code(), Code::Unknown);
    assert_eq!(
        refused.message(),
        "auth: authentication failed, password was given for no password user"
    );
    let (hash, revision) = store.password_hash("alice").unwrap();
    assert_eq!((&hash[..], revision), (&b"hash of alice's"[..], store.revision()));
    store.disable();
    assert_eq!(store.password_hash("alice"), Err(Error::AuthNotEnabled));
}

#[test]
fn auth_03_simple_tokens_live_from_their_last_use() {
    let ttl = Duration::from_secs(300);
    let at = Duration::from_secs;
    let store = enabled(&[]);
    let letters = SimpleTokens::letters(|| 51);
    assert_eq!(letters, "Z".repeat(TOKEN_LETTERS));
    let request = Authenticate { name: "alice".to_owned(), letters };
    let token = store.authenticate(7, &request).unwrap();
    assert_eq!(token, "ZZZZZZZZZZZZZZZZ.7");
    let look = |token: &str, now| store.tokens.look_up(token, 9, now, ttl);
    let alice = Lookup::User("alice".to_owned());
    assert_eq!(look(&token, at(1000)), alice, "its time begins when the time is first told");
    assert_eq!(look(&token, at(1299)), alice);
    assert_eq!(look(&token, at(1598)), alice, "every use prolongs it");
    for wrong in ["ZZZZZZZZZZZZZZZz.7", "ZZZZ.7", "ZZZZZZZZZZZZZZZZ.8", "7", "", ".7", "Z.7.7"] {
        assert_eq!(look(wrong, at(1598)), Lookup::Unknown, "{wrong:?}");
    }
    assert_eq!(look("ZZZZZZZZZZZZZZZZ.10", at(1598)), Lookup::Ahead, "not applied here yet");
    assert_eq!(look(&token, at(1898)), Lookup::Unknown, "unused for its time to live");

    let unused = store.authenticate(8, &request).unwrap();
    store.tokens.tick(at(2000), ttl);
    store.tokens.tick(at(2300), ttl);
    assert_eq!(look(&unused, at(2300)), Lookup::Unknown);
}

#[test]
fn auth_03_tokens_end_with_what_they_stand_for() {
    let ttl = Duration::from_secs(300);
    let name = || "alice".to_owned();
    type End<'a> = &'a dyn Fn(&AuthStore);
    let ends: [(End<'_>, bool); 4] = [
        (&|store| delete_user(store, "alice").unwrap(), true),
        (
            &|store| {
                let (name, hashed_password) = (name(), "new".to_owned());
                let password = String::new();
                let change = pb::AuthUserChangePasswordRequest { name, password, hashed_password };
                store.user_change_password(change).unwrap();
            },
            true,
        ),
        (&|store| store.disable(), false),
        // A raft snapshot brings another state, in which any of these may have happened.
        (&|store| store.replace(LoadedAuth::of(&*store.backend).unwrap()), false),
    ];
    for (number, (end, leaves_others)) in ends.into_iter().enumerate() {
        let store = enabled(&[&[permission(Type::Read, "a", "")]]);
        let request = Authenticate { name: name(), letters: "x".repeat(TOKEN_LETTERS) };
        let token = store.authenticate(3, &request).unwrap();
        let of_root = Authenticate { name: "root".to_owned(), letters: "y".repeat(TOKEN_LETTERS) };
        let of_root = store.authenticate(4, &of_root).unwrap();
        end(&store);
        let look = |token: &str| store.tokens.look_up(token, 9, Duration::ZERO, ttl);
        assert_eq!(look(&token), Lookup::Unknown, "end {number}");
        let kept = if leaves_others { Lookup::User("root".into()) } else { Lookup::Unknown };
        assert_eq!(look(&of_root), kept, "end {number}");
    }
}

#[test]
fn everything_is_there_again_after_a_restart_and_can_be_carried_over() {
    let backend = backend();
    let store = AuthStore::open(backend.clone()).unwrap();
    add_user(&store, "root").unwrap();
    grant_role(&store, "root", "root").unwrap();
    add_role(&store, "r").unwrap();
    grant(&store, "r", permission(Type::Write, "k", "m")).unwrap();
    store.enable().unwrap();
    let stored = store.stored();
    assert_eq!((stored.enabled, stored.revision), (true, 5));
    let again = AuthStore::open(backend).unwrap();
    assert_eq!(again.stored(), stored);
    assert!(again.is_enabled() && again.revision() == 5);

    let other = self::backend();
    AuthStore::import(&other, &stored);
    assert_eq!(AuthStore::open(other).unwrap().stored(), stored);
}

#[test]
fn secrets_have_no_printed_form() {
    let caller = Caller::with_token("abcdefgh.7");
    assert!(!format!("{caller:?}").contains("abcdefgh"));
    let reply = crate::apply::Reply::Token(crate::apply::Token("abcdefgh.7".to_owned()));
    assert!(!format!("{reply:?}").contains("abcdefgh"));
}

#[test]
fn auth_05_a_kind_of_permission_that_is_not_known_permits_nothing() {
    let unknown = Permission { perm_type: 7, ..permission(Type::Read, "a", "") };
    let store = enabled(&[&[unknown, permission(Type::Read, "b", "")]]);
    let alice = user(&store, "alice");
    let read = |key: &[u8]| store.check_read(&alice, &KeyRange::new(key, b""));
    assert_eq!((read(b"a"), read(b"b")), (Err(Error::PermissionDenied), Ok(())));
}
