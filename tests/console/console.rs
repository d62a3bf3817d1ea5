//! Console process, and requests to its HTTP server.

use std::path::Path;

use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::Value;

use crate::{
    run::program,
    support::{process::Process, world::World},
};

/// Running console.
pub struct Console {
    /// Process, with its output.
    pub process: Process,
    /// One-time URL.
    pub url: String,
    /// `http://127.0.0.1:port`.
    pub origin: String,
    http: reqwest::Client,
}

impl Console {
    /// Starts the console of a world's namespace, with the rights of the cluster's admin.
    pub fn start(world: &World) -> Self {
        Self::start_as(world, &world.cluster.kubeconfig)
    }

    /// Starts the console with the rights of another kubeconfig's user.
    pub fn start_as(world: &World, kubeconfig: &Path) -> Self {
        Self::start_with(kubeconfig, &["-n", &world.namespace])
    }

    /// Starts the console with these arguments.
    pub fn start_with(kubeconfig: &Path, arguments: &[&str]) -> Self {
        let mut command = program(kubeconfig);
        command.args(["console", "--no-browser"]).args(arguments);
        let mut process = Process::start(&mut command);
        let url = process.wait_for("the console's URL", |line| {
            line.starts_with("http://").then(|| line.to_owned())
        });
        let origin = url.split("/open").next().expect("a URL").to_owned();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Self {
            process,
            url,
            origin,
            http,
        }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        let (_, port) = self.origin.rsplit_once(':').expect("a port");
        port.parse().expect("a number")
    }

    /// Returns a request without a cookie.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.origin))
    }

    /// Opens the one-time URL and returns the cookie.
    pub async fn enter(&self) -> String {
        let answer = self.http.get(&self.url).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let cookie = answer.headers()[header::SET_COOKIE].to_str().expect("text");
        cookie.split(';').next().expect("a cookie").to_owned()
    }

    /// Returns a request as the page sends it.
    pub fn own(&self, cookie: &str, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path)
            .header(header::COOKIE, cookie)
            .header(header::ORIGIN, &self.origin)
            .header("sec-fetch-site", "same-origin")
    }

    /// Sends a POST with a JSON body, as the page does.
    pub async fn post(&self, cookie: &str, path: &str, body: &Value) -> Response {
        self.own(cookie, Method::POST, path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_string())
            .send()
            .await
            .expect("an answer")
    }
}
