//! The verification of tokens' signatures by ring, the process's one crypto library.
//!
//! `jsonwebtoken` verifies through a provider of the whole process. This one verifies, and signs
//! nothing. It knows no algorithm with a shared secret.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature as schemes;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    // Only used to make keys of other keys, which nothing here does.
    key_utils: KeyUtils::new_unimplemented(),
};

/// The algorithms that tokens may have.
pub(super) const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Makes this module the process's provider.
pub(super) fn install() {
    // It fails only if it was installed before.
    let _ = PROVIDER.install_default();
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let (family, scheme) = scheme(*algorithm).ok_or(ErrorKind::UnsupportedAlgorithm)?;
    // A key of another kind must not be read as one of this.
    if key.family() != family {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(RingVerifier { algorithm: *algorithm, scheme, key: key.clone() }))
}

enum Scheme {
    Rsa(&'static schemes::RsaParameters),
    Point(&'static dyn schemes::VerificationAlgorithm),
}

fn scheme(algorithm: Algorithm) -> Option<(AlgorithmFamily, Scheme)> {
    use AlgorithmFamily::{Ec, Ed, Rsa};
    Some(match algorithm {
        Algorithm::RS256 => (Rsa, Scheme::Rsa(&schemes::RSA_PKCS1_2048_8192_SHA256)),
        Algorithm::RS384 => (Rsa, Scheme::Rsa(&schemes::RSA_PKCS1_2048_8192_SHA384)),
        Algorithm::RS512 => (Rsa, Scheme::Rsa(&schemes::RSA_PKCS1_2048_8192_SHA512)),
        Algorithm::PS256 => (Rsa, Scheme::Rsa(&schemes::RSA_PSS_2048_8192_SHA256)),
        Algorithm::PS384 => (Rsa, Scheme::Rsa(&schemes::RSA_PSS_2048_8192_SHA384)),
        Algorithm::PS512 => (Rsa, Scheme::Rsa(&schemes::RSA_PSS_2048_8192_SHA512)),
        Algorithm::ES256 => (Ec, Scheme::Point(&schemes::ECDSA_P256_SHA256_FIXED)),
        Algorithm::ES384 => (Ec, Scheme::Point(&schemes::ECDSA_P384_SHA384_FIXED)),
        Algorithm::EdDSA => (Ed, Scheme::Point(&schemes::ED25519)),
        _ => return None,
    })
}

struct RingVerifier {
    algorithm: Algorithm,
    scheme: Scheme,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = match (&self.scheme, self.key.kind()) {
            (Scheme::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                schemes::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Scheme::Point(algorithm), DecodingKeyKind::SecretOrDer(point)) => {
                schemes::UnparsedPublicKey::new(*algorithm, point).verify(message, signature)
            }
            _ => return Err(Error::new()),
        };
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, A.2.
    #[test]
    fn the_example_of_the_standard_is_verified() {
        install();
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPM\
                 EzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-\
                 bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3\
                 qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9g\
                 b54h4FRWyuXpoQ";
        let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6\
                       Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-\
                         0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrn\
                         byTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi1\
                         2jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs\
                         98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let key = DecodingKey::from_rsa_components(n, "AQAB").expect("a key");
        let verify = |message: &str, algorithm| {
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, algorithm)
        };
        assert!(verify(message, Algorithm::RS256).expect("a known algorithm"));
        assert!(!verify(&message.replacen('J', "K", 1), Algorithm::RS256).expect("known"));
        for other in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256] {
            assert!(verify(message, other).is_err(), "{other:?}");
        }
    }
}
