//! Headless Chromium, controlled over `WebDriver`.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};

use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource as _, KeyAction, KeyActions},
    elements::Element,
    wd::WebDriverCompatibleCommand,
};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    console::Console,
    support::{eventually, process::Process},
};

/// Browser with one window.
pub struct Browser {
    client: Client,
    session: String,
    port: u16,
    _process: Process,
    _profile: tempfile::TempDir,
}

/// Command of Chromium's own protocol.
#[derive(Debug)]
struct Devtools(Value);

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.0.to_string()))
    }
}

/// Starts chromedriver on a free port. It takes one for IPv4 that may not be free for IPv6, then says
/// so and ends, and another one has to be tried.
fn driver() -> (Process, u16) {
    for _ in 0..5 {
        let mut process = Process::start(Command::new("chromedriver").arg("--port=0"));
        let port: Option<u16> = process.wait_for("the port of chromedriver", |line| {
            if line.contains("bind() failed: Address already in use") {
                return Some(None);
            }
            let port = line.split_once("started successfully on port ")?.1;
            Some(port.trim_end_matches('.').parse().ok())
        });
        if let Some(port) = port {
            return (process, port);
        }
    }
    panic!("chromedriver finds no free port");
}

impl Browser {
    /// Opens a browser with a console.
    pub async fn open(console: &Console) -> Self {
        let browser = Self::start().await;
        browser.go(&console.url).await;
        browser.see("#link", "live").await;
        browser
    }

    /// Opens a browser with an empty page.
    pub async fn start() -> Self {
        let found = Command::new("chromedriver").arg("--version").output();
        assert!(
            found.is_ok_and(|output| output.status.success()),
            "chromedriver is missing; `make browser` installs it with Chromium, or says what to install"
        );
        let profile = tempfile::tempdir().expect("a folder");
        let (process, port) = driver();
        let arguments = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--window-size=1280,860",
            format!("--user-data-dir={}", profile.path().display()),
        ]);
        let wanted = json!({"goog:chromeOptions": {"args": arguments}});
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted.as_object().expect("an object").clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a browser");
        let session = client.session_id().await.expect("a session");
        Self {
            client,
            session: session.expect("a session"),
            port,
            _process: process,
            _profile: profile,
        }
    }

    /// Opens a URL.
    pub async fn go(&self, url: &str) {
        self.client.goto(url).await.expect("a page");
    }

    /// Returns the value of a JavaScript expression.
    pub async fn eval(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        let value = self.client.execute(&script, Vec::new()).await;
        value.expect("a script that is fine")
    }

    async fn devtools(&self, method: &str, parameters: Value) {
        let command = json!({"cmd": method, "params": parameters});
        let answer = self.client.issue_cmd(Devtools(command)).await;
        answer.expect("a command that is fine");
    }

    /// Waits until a JavaScript expression is true. An expression that throws, for example because
    /// an element does not exist yet, is not true.
    pub async fn holds(&self, expression: &str) {
        eventually(expression, || async {
            let script = format!("return {expression}");
            let value = self.client.execute(&script, Vec::new()).await.ok()?;
            (value == json!(true)).then_some(())
        })
        .await;
    }

    /// Waits until the element is shown and its text contains a part. Returns the text.
    pub async fn see(&self, css: &str, part: &str) -> String {
        eventually(&format!("{css} shows `{part}`"), || async {
            let text = self.text(css).await?;
            text.contains(part).then_some(text)
        })
        .await
    }

    /// Returns the text of a visible element.
    pub async fn text(&self, css: &str) -> Option<String> {
        let found = self.client.find(Locator::Css(css)).await.ok()?;
        found.text().await.ok().filter(|text| !text.is_empty())
    }

    async fn find(&self, css: &str) -> Element {
        eventually(&format!("{css} is shown"), || async {
            let found = self.client.find(Locator::Css(css)).await.ok()?;
            found.is_displayed().await.ok()?.then_some(found)
        })
        .await
    }

    /// Clicks on an element once it is visible and not covered.
    pub async fn click(&self, css: &str) {
        eventually(&format!("{css} can be clicked"), || async {
            let found = self.client.find(Locator::Css(css)).await.ok()?;
            found.click().await.ok()
        })
        .await;
    }

    /// Clicks on an element once it is enabled.
    pub async fn press(&self, css: &str) {
        self.find(&format!("{css}:not([aria-disabled])")).await;
        self.click(css).await;
    }

    /// Replaces the text of a field.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("a field");
        field.send_keys(text).await.expect("a field");
    }

    /// Clears a field and removes the focus from it.
    pub async fn clear(&self, css: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("a field");
    }

    /// Presses a key in the focused element.
    pub async fn key(&self, key: impl Into<char>) {
        let value = key.into();
        let keys = KeyActions::new("keyboard".to_owned());
        let keys = keys
            .then(KeyAction::Down { value })
            .then(KeyAction::Up { value });
        self.client.perform_actions(keys).await.expect("a key");
    }

    /// Types text into the focused element.
    pub async fn type_text(&self, text: &str) {
        for letter in text.chars() {
            self.key(letter).await;
        }
    }

    /// Opens a token or identity of the list.
    pub async fn choose(&self, key: &str) {
        self.click(&format!("tr[data-key=\"{key}\"] button")).await;
        let name = key.rsplit('/').next().expect("a name");
        self.see("#detail h2", name).await;
    }

    /// Sets the size of the viewport, and the preferred colour scheme.
    pub async fn appear(&self, width: u32, height: u32, scheme: &str) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Allows the page to use the clipboard.
    pub async fn allow_clipboard(&self, console: &Console) {
        let rights = json!({"origin": console.origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
        self.devtools("Browser.grantPermissions", rights).await;
    }

    /// Saves a screenshot.
    pub async fn picture(&self, file: &Path) {
        let picture = self.client.screenshot().await.expect("a picture");
        std::fs::write(file, picture).expect("writable");
    }
}

/// Closes the browser when its test ends or fails. The browser would outlive its driver.
impl Drop for Browser {
    fn drop(&mut self) {
        let request = format!(
            "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
            self.session
        );
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.write_all(request.as_bytes());
            // The answer arrives once the browser has exited; the connection stays open.
            let _ = stream.read(&mut [0; 1]);
        }
    }
}
