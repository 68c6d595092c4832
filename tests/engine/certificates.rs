//! A certificate authority with a server and a client certificate, in the files that the official image uses.

use std::error::Error;
use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Writes `server/{ca,cert,key}.pem` and `client/{ca,cert,key}.pem` below `folder`. The server's certificate names no
/// address: the client is told to trust by authority, and the address of a test container is not known before.
pub fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "test CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    // Every address the engine's bridge can give out.
    let names: Vec<String> = std::iter::once("localhost".to_owned()).chain(addresses()).collect();
    for (side, usage) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let mut params = CertificateParams::new(names.clone())?;
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let place = folder.join(side);
        fs::create_dir_all(&place)?;
        fs::write(place.join("ca.pem"), &ca)?;
        fs::write(place.join("cert.pem"), certificate.pem())?;
        fs::write(place.join("key.pem"), key.serialize_pem())?;
    }
    Ok(())
}

/// The first addresses of the network that the engine's default bridge uses.
pub fn addresses() -> Vec<String> {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let gateway = super::docker::docker(&["network", "inspect", "bridge", "--format", format]).ok();
    let Some((prefix, _)) = gateway.rsplit_once('.') else { return Vec::new() };
    (1..255).map(|host| format!("{prefix}.{host}")).collect()
}
