//! TLS with the emulator's own certificate authority, whose certificate is stored in the state
//! directory.

use std::{
    collections::HashMap,
    env::temp_dir,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::Acceptor,
};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::temporary::Temporary;

/// Maximum number of cached certificates: clients use few names, and a flood of others is not
/// cached.
const MOST_NAMES: usize = 100;

/// Certificate authority; signs a certificate for each name or address that a client connects to.
pub(in super::super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
    _temporary: Option<Temporary>,
    configs: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    /// Opens the authority in a directory, creating it if it is missing; without a directory, uses
    /// a temporary one. The error is a sentence.
    pub fn open(dir: Option<&Path>) -> Result<Self, String> {
        let mut temporary = None;
        if dir.is_none() {
            let made = Temporary::make();
            temporary = Some(made.map_err(|error| format!("{}: {error}", temp_dir().display()))?);
        }
        let own = temporary.as_ref().map(Temporary::path);
        let dir = dir.or(own).unwrap_or_else(|| Path::new("."));
        let made = Self::make(dir);
        let (issuer, file) = made.map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self {
            issuer,
            file,
            _temporary: temporary,
            configs: Mutex::default(),
        })
    }

    fn make(dir: &Path) -> Result<(Issuer<'static, KeyPair>, PathBuf), Box<dyn std::error::Error>> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let (key_file, file) = (dir.join("ca-key.pem"), dir.join("ca.pem"));
        let key = match fs::read_to_string(&key_file) {
            Ok(pem) => KeyPair::from_pem(&pem)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                put(&key_file, &key.serialize_pem())?;
                key
            }
            Err(error) => return Err(error.into()),
        };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "acs-emulator, for tests only");
        params.distinguished_name = name;
        if !file.exists() {
            put(&file, &params.self_signed(&key)?.pem())?;
        }
        Ok((Issuer::new(params, key), file))
    }

    /// Returns the path of the certificate in PEM format.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Performs a TLS handshake, with a certificate for the name that the client requests. A client
    /// that sends none, as Java does for names without a dot, gets one for all names of this
    /// machine.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let address = stream.local_addr()?.ip().to_canonical().to_string();
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = start.client_hello().server_name().map(str::to_owned);
        let config = self.config(name.unwrap_or(address))?;
        start.into_stream(config).await
    }

    fn config(&self, name: String) -> io::Result<Arc<ServerConfig>> {
        let mut configs = self.configs.lock();
        if let Some(config) = configs.get(&name) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.certify(&name).map_err(io::Error::other)?);
        if configs.len() >= MOST_NAMES {
            configs.clear();
        }
        configs.insert(name, Arc::clone(&config));
        Ok(config)
    }

    fn certify(
        &self,
        name: &str,
    ) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let mut names = vec![name.to_owned()];
        names.extend(own_names().filter(|own| own != name));
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone()];
        Ok(ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)?)
    }
}

/// Returns the names and addresses of this machine, regardless of where the emulator listens.
fn own_names() -> impl Iterator<Item = String> {
    let host = hostname::get()
        .ok()
        .and_then(|name| name.into_string().ok());
    let host = host.filter(|name| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
    });
    ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .map(str::to_owned)
        .chain(host.filter(|host| host != "localhost"))
}

/// Writes a file that only this user can read, all or nothing.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}
