//! A real browser: Chromium, headless, driven over WebDriver.

use std::{path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use thirtyfour::{
    By, ChromiumLikeCapabilities as _, DesiredCapabilities, Key, WebDriver, WebElement,
};

use crate::{
    console::Console,
    support::{eventually, process::Process},
};

/// A browser with one window.
pub struct Browser {
    // First: it closes the browser while the driver's process is still there.
    driver: WebDriver,
    _process: Process,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A browser that shows a console.
    pub async fn open(console: &Console) -> Self {
        let browser = Self::start().await;
        browser.go(&console.url).await;
        browser.see("#link", "live").await;
        browser
    }

    /// A browser that shows nothing yet.
    pub async fn start() -> Self {
        let found = Command::new("chromedriver").arg("--version").output();
        assert!(
            found.is_ok_and(|output| output.status.success()),
            "chromedriver is missing; `make browser` installs it with Chromium, or says what to install"
        );
        let profile = tempfile::tempdir().expect("a folder");
        let mut process = Process::start(Command::new("chromedriver").arg("--port=0"));
        let port: u16 = process.wait_for("the port of chromedriver", |line| {
            let port = line.split_once("started successfully on port ")?.1;
            port.trim_end_matches('.').parse().ok()
        });
        let mut wanted = DesiredCapabilities::chrome();
        let folder = format!("--user-data-dir={}", profile.path().display());
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--window-size=1280,860",
            &folder,
        ] {
            wanted.add_arg(argument).expect("an argument");
        }
        let driver = WebDriver::builder(format!("http://127.0.0.1:{port}"), wanted)
            .request_timeout(Duration::from_mins(1))
            .await
            .expect("a browser");
        Self {
            driver,
            _process: process,
            _profile: profile,
        }
    }

    /// Follows a URL.
    pub async fn go(&self, url: &str) {
        self.driver.goto(url).await.expect("a page");
    }

    /// The value of a JavaScript expression.
    pub async fn eval(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        let value = self.driver.execute(script, Vec::new()).await;
        value.expect("a script that is fine").json().clone()
    }

    /// Waits until a JavaScript expression is true.
    pub async fn holds(&self, expression: &str) {
        eventually(expression, || async {
            (self.eval(expression).await == json!(true)).then_some(())
        })
        .await;
    }

    /// Waits until the element is shown and its text has a part; tells the text.
    pub async fn see(&self, css: &str, part: &str) -> String {
        eventually(&format!("{css} shows `{part}`"), || async {
            let text = self.text(css).await?;
            text.contains(part).then_some(text)
        })
        .await
    }

    /// The text of an element that is shown.
    pub async fn text(&self, css: &str) -> Option<String> {
        let found = self.driver.find(By::Css(css.to_owned())).await.ok()?;
        found.text().await.ok().filter(|text| !text.is_empty())
    }

    async fn find(&self, css: &str) -> WebElement {
        eventually(&format!("{css} is shown"), || async {
            let found = self.driver.find(By::Css(css.to_owned())).await.ok()?;
            found.is_displayed().await.ok()?.then_some(found)
        })
        .await
    }

    /// Clicks on an element as soon as it is shown and not covered.
    pub async fn click(&self, css: &str) {
        eventually(&format!("{css} can be clicked"), || async {
            let found = self.driver.find(By::Css(css.to_owned())).await.ok()?;
            found.click().await.ok()
        })
        .await;
    }

    /// Clicks on an element that is not greyed out any more.
    pub async fn press(&self, css: &str) {
        self.find(&format!("{css}:not([aria-disabled])")).await;
        self.click(css).await;
    }

    /// Writes into a field in place of what it holds.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("a field");
        field.send_keys(text).await.expect("a field");
    }

    /// Empties a field and leaves it.
    pub async fn clear(&self, css: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("a field");
    }

    /// Presses a key where the focus is.
    pub async fn key(&self, key: Key) {
        let keys = self.driver.action_chain().send_keys(key);
        keys.perform().await.expect("a key");
    }

    /// Types where the focus is.
    pub async fn type_text(&self, text: &str) {
        let keys = self.driver.action_chain().send_keys(text);
        keys.perform().await.expect("text");
    }

    /// Opens a token or identity that is in the list.
    pub async fn choose(&self, key: &str) {
        self.click(&format!("tr[data-key=\"{key}\"] button")).await;
        let name = key.rsplit('/').next().expect("a name");
        self.see("#detail h2", name).await;
    }

    /// Sets the size of what is shown, and the person's colour scheme.
    pub async fn appear(&self, width: u32, height: u32, scheme: &str) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        let cdp = self.driver.cdp();
        let set = cdp.send_raw("Emulation.setDeviceMetricsOverride", size);
        set.await.expect("a size");
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        let set = cdp.send_raw("Emulation.setEmulatedMedia", features);
        set.await.expect("a colour scheme");
    }

    /// Lets the page use the clipboard, as a person's browser does.
    pub async fn allow_clipboard(&self, console: &Console) {
        let rights = json!({"origin": console.origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
        let cdp = self.driver.cdp();
        let granted = cdp.send_raw("Browser.grantPermissions", rights);
        granted.await.expect("a right");
    }

    /// Keeps a picture of what is shown.
    pub async fn picture(&self, file: &Path) {
        self.driver.screenshot(file).await.expect("a picture");
    }

    /// Closes the browser.
    pub async fn close(self) {
        self.driver.quit().await.expect("the browser ends");
    }
}
