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

const METHODS: [(&str, &str); 13] = [
    ("RS256", "jwt-rsa"),
    ("RS384", "jwt-rsa"),
    ("RS512", "jwt-rsa"),
    ("PS256", "jwt-rsa"),
    ("PS384", "jwt-rsa"),
    ("PS512", "jwt-rsa"),
    ("ES256", "jwt-P-256"),
    ("ES384", "jwt-P-384"),
    ("ES512", "jwt-P-521"),
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

fn signed(signer: &JwtSigner, header: &str, body: &str) -> String {
    let message = [header, body].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = signer.sign.as_ref().unwrap().sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn auth_03_claims_are_judged_as_gos_library_judges_them() {
    let signer = JwtSigner::read(&config("HS256", key("jwt-secret.txt"), None)).unwrap();
    let verified = |claims: serde_json::Value| {
        let token = signed(&signer, r#"{"alg":"HS256"}"#, &claims.to_string());
        signer.verify(&token).map(|claims| claims.revision)
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
fn auth_03_headers_of_others_are_read_as_etcd_reads_them() {
    let signer = JwtSigner::read(&config("HS256", key("jwt-secret.txt"), None)).unwrap();
    let body = r#"{"username":"alice","revision":3}"#;
    for (header, is_good) in [
        (r#"{"alg":"HS256"}"#, true),
        (r#"{"alg":"HS256","typ":"JWT","kid":"1"}"#, true),
        (r#"{"alg":"none"}"#, false),
        (r#"{"alg":"HS256","crit":["b64"]}"#, false),
        (r#"{"typ":"JWT"}"#, false),
    ] {
        assert_eq!(signer.verify(&signed(&signer, header, body)).is_some(), is_good, "{header}");
    }
    let negative = r#"{"username":"alice","revision":-1}"#;
    assert_eq!(signer.verify(&signed(&signer, r#"{"alg":"HS256"}"#, negative)), None);
}

#[test]
fn auth_03_keys_come_in_every_form_that_etcd_takes() {
    for (method, private, public) in [
        ("ES256", "jwt-P-256.sec1.pem", "jwt-P-256.crt.pem"),
        ("RS256", "jwt-rsa.pkcs1.pem", "jwt-rsa.pkcs1.pub.pem"),
    ] {
        let signer = JwtSigner::read(&config(method, key(private), key(public))).unwrap();
        let token = signer.sign("alice", 7).unwrap();
        let alone = JwtSigner::read(&config(method, None, key(public))).unwrap();
        assert!(alone.verify(&token).is_some(), "{method}");
    }
}

/// The example of RFC 7515, appendix A.4: of the curve's own key, and signed by somebody else.
#[test]
fn auth_03_es512_is_that_of_the_standard() {
    let message = b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA";
    let point = [
        "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
    ];
    let point = point.map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).concat();
    let signature = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDK\
                     B34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwN\
                     rmxYbSW9ERBXukOXolLzeO_Jn";
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = VerifyingKey::of_point(&[&[4][..], &point].concat()).unwrap();
    assert!(key.verify(message, &signature));
    assert!(!key.verify(b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZB", &signature));
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
            "the pub-key is no key for ES256",
        ),
        (
            config("ES256", key("jwt-P-256.pem"), key("jwt-P-256-other.pub.pem")),
            "priv-key and pub-key do not belong together",
        ),
    ] {
        let text = refused(config);
        assert!(text.starts_with("--auth-token: ") && text.contains(expected), "{text}");
    }
}
