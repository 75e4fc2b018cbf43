//! Every method signs and verifies; nothing else is let in. The keys are the tests' own.

use super::*;

fn key(name: &str) -> Option<String> {
    Some(format!("{}/../tests/keys/{name}", env!("CARGO_MANIFEST_DIR")))
}

fn config(sign_method: &str, private: Option<String>, public: Option<String>) -> JwtConfig {
    JwtConfig {
        sign_method: sign_method.to_owned(),
        priv_key: private,
        pub_key: public,
        ttl: Duration::from_secs(300),
    }
}

const METHODS: [(&str, &str); 12] = [
    ("RS256", "jwt-rsa"),
    ("RS384", "jwt-rsa"),
    ("RS512", "jwt-rsa"),
    ("PS256", "jwt-rsa"),
    ("PS384", "jwt-rsa"),
    ("PS512", "jwt-rsa"),
    ("ES256", "jwt-P-256"),
    ("ES384", "jwt-P-384"),
    ("EdDSA", "jwt-ed25519"),
    ("HS256", ""),
    ("HS384", ""),
    ("HS512", ""),
];

#[test]
fn auth_03_every_method_signs_and_verifies_with_both_keys_or_one() {
    for (method, name) in METHODS {
        let (private, public) = match name {
            "" => (key("jwt-secret.txt"), None),
            name => (key(&format!("{name}.pem")), key(&format!("{name}.pub.pem"))),
        };
        let both = JwtSigner::read(&config(method, private.clone(), public.clone())).unwrap();
        let token = both.sign("alice", 7).unwrap();
        let claims = Some(Claims { user: "alice".to_owned(), revision: 7 });
        assert_eq!(both.verify(&token), claims, "{method}");
        let private_only = JwtSigner::read(&config(method, private, None)).unwrap();
        assert_eq!(private_only.verify(&token), claims, "{method}: the private key has the public");
        if public.is_some() {
            let public_only = JwtSigner::read(&config(method, None, public)).unwrap();
            assert_eq!(public_only.verify(&token), claims, "{method}");
            let refused = public_only.sign("alice", 7).unwrap_err();
            assert_eq!(
                (refused.code(), refused.message()),
                (Code::Unknown, "auth: token signing attempted with verify-only key")
            );
        }
        for bad in ["", "a.b", &token[1..], &format!("{token}x")] {
            assert_eq!(both.verify(bad), None, "{method}: {bad}");
        }
    }
}

#[test]
fn auth_03_a_token_of_another_method_or_key_or_time_is_refused() {
    let read = |method, name: &str| {
        JwtSigner::read(&config(method, key(&format!("{name}.pem")), None)).unwrap()
    };
    let rs256 = read("RS256", "jwt-rsa");
    for other in [read("RS512", "jwt-rsa"), read("ES256", "jwt-P-256")] {
        assert_eq!(rs256.verify(&other.sign("root", 1).unwrap()), None);
    }
    // The old trick: the public key taken for a secret.
    let public = config("HS256", key("jwt-rsa.pub.pem"), None);
    let forged = JwtSigner::read(&public).unwrap().sign("root", 1).unwrap();
    assert_eq!(rs256.verify(&forged), None);
    let expired = JwtSigner { ttl: Duration::ZERO, ..rs256 };
    let token = expired.sign("root", 1).unwrap();
    assert_eq!(expired.verify(&token), None, "its time is over");
}

#[test]
fn auth_03_claims_are_judged_as_gos_library_judges_them() {
    let signer = JwtSigner::read(&config("HS256", key("jwt-secret.txt"), None)).unwrap();
    let verified = |claims: serde_json::Value| {
        let token = encode(&Header::new(signer.algorithm), &claims, signer.sign.as_ref().unwrap());
        signer.verify(&token.unwrap()).map(|claims| claims.revision)
    };
    let now = since_epoch().as_secs();
    for (more, is_good) in [
        (serde_json::json!({}), true),
        (serde_json::json!({"exp": 0, "nbf": 0}), true),
        (
            serde_json::json!({"exp": now + 100, "aud": "somebody", "iss": "x", "iat": now + 50}),
            true,
        ),
        (serde_json::json!({"exp": now as f64 + 100.5}), true),
        (serde_json::json!({"exp": now - 1}), false),
        (serde_json::json!({"exp": "never"}), false),
        (serde_json::json!({"exp": null}), false),
        (serde_json::json!({"nbf": now - 1}), true),
        (serde_json::json!({"nbf": now + 100}), false),
        (serde_json::json!({"revision": "7"}), false),
        (serde_json::json!({"username": null}), false),
    ] {
        let mut claims = serde_json::json!({"username": "alice", "revision": 7.0});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(verified(claims), is_good.then_some(7), "{more}");
    }
}

#[test]
fn auth_03_keys_that_do_not_do_are_found_at_the_start() {
    let refused = |config: JwtConfig| JwtSigner::read(&config).err().unwrap_or_default();
    for (config, expected) in [
        (config("RS128", key("jwt-rsa.pem"), None), "sign-method \"RS128\" is not known"),
        (config("RS256", None, None), "missing key data"),
        (config("HS256", None, None), "missing key data"),
        (config("HS256", None, key("jwt-rsa.pub.pem")), "missing key data"),
        (config("HS256", Some("/dev/null".to_owned()), None), "missing key data"),
        (config("RS256", key("nothing.pem"), None), "cannot read"),
        (config("RS256", key("jwt-P-256.pem"), None), "the priv-key is no key for RS256"),
        (config("ES256", None, key("jwt-rsa.pub.pem")), "the pub-key is no key for ES256"),
        (
            config("ES256", key("jwt-P-256.pem"), key("jwt-P-384.pub.pem")),
            "priv-key and pub-key do not belong together",
        ),
    ] {
        let text = refused(config);
        assert!(text.starts_with("--auth-token: ") && text.contains(expected), "{text}");
    }
}
