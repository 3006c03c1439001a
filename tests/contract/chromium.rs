//! Chromium, driven by its DevTools protocol over two pipes: nobody else can reach it, and it ends with the test.
//! <https://chromedevtools.github.io/devtools-protocol/>
//!
//! A person's clicks and keys go in as the system's own events, at the place where the thing is seen that has this name for a
//! screen reader. What has no name, or lies behind something else, can't be clicked.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use local_stack::ring::{Ring, on_path};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

/// So long a page may take to show what is waited for. Everything shares two cores here.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a page is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(50);

/// The two pipes are the files 3 and 4 of a browser, and a child of ours has 0 to 2.
const PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

/// A running browser with a profile of its own; it ends when it and its tabs are dropped.
#[derive(Clone)]
pub(crate) struct Chromium(Arc<Inner>);

struct Inner {
    state: Arc<Mutex<State>>,
    commands: mpsc::UnboundedSender<Vec<u8>>,
    numbers: AtomicU64,
    profile: PathBuf,
    _browser: Child,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, oneshot::Sender<Result<Value, String>>>,
    tabs: BTreeMap<String, Seen>,
}

/// What a tab has told by itself.
#[derive(Default)]
struct Seen {
    complaints: Vec<String>,
    requests: Vec<Request>,
}

/// A request that a page has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: String,
    /// The whole URL.
    pub(crate) url: String,
}

/// A tab.
pub(crate) struct Tab {
    browser: Chromium,
    target: String,
    session: String,
}

impl Chromium {
    /// Starts the browser of this machine. Without one the test ends as a ring that can't run.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(on_path) else {
            Ring::Browser.skip_or_fail("no Chromium is on the PATH; install Debian's package chromium");
            return None;
        };
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{}", Uuid::new_v4().simple()));
        let mut command = Command::new("sh");
        command.arg("-c").arg(PIPES).arg(program).arg("--remote-debugging-pipe");
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        command.args(["--no-proxy-server", "--hide-scrollbars", "--window-size=1280,1000"]);
        command.arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut browser = command.spawn().expect("the browser starts");
        let (input, output) = (browser.stdin.take().unwrap(), browser.stdout.take().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let (commands, to_send) = mpsc::unbounded_channel();
        tokio::spawn(send(input, to_send));
        tokio::spawn(receive(output, Arc::clone(&state)));
        let numbers = AtomicU64::default();
        Some(Self(Arc::new(Inner { state, commands, numbers, profile, _browser: browser })))
    }

    /// A new tab with a page, in front of all others of the window.
    pub(crate) async fn open(&self, url: &str) -> Tab {
        let target = self.call("", "Target.createTarget", json!({"url": "about:blank"})).await;
        let target = text(&target["targetId"]);
        let attached = self.call("", "Target.attachToTarget", json!({"targetId": target, "flatten": true})).await;
        let tab = Tab { browser: self.clone(), target, session: text(&attached["sessionId"]) };
        for domain in ["Page", "Runtime", "Log", "Network", "DOM", "Accessibility"] {
            tab.call(&format!("{domain}.enable"), json!({})).await;
        }
        tab.go(url).await;
        tab
    }

    async fn call(&self, session: &str, method: &str, parameters: Value) -> Value {
        let answer = self.try_to_call(session, method, parameters).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn try_to_call(&self, session: &str, method: &str, parameters: Value) -> Result<Value, String> {
        let id = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if !session.is_empty() {
            message["sessionId"] = json!(session);
        }
        let (answer, answered) = oneshot::channel();
        self.state().waiting.insert(id, answer);
        let mut message = message.to_string().into_bytes();
        message.push(0);
        drop(self.0.commands.send(message));
        match timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_gone)) => Err("the browser has ended".to_owned()),
            Err(_elapsed) => Err("the browser does not answer".to_owned()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0.state)
    }
}

impl Drop for Inner {
    /// The browser may still write to its profile; what stays lies where builds do.
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.profile));
    }
}

impl Tab {
    /// Leads the tab to another page.
    pub(crate) async fn go(&self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url})).await;
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
    }

    /// Loads the page anew.
    pub(crate) async fn reload(&self) {
        // A mark that the new page does not have.
        self.evaluate("globalThis.isOld = true").await;
        self.call("Page.reload", json!({})).await;
        self.wait_for("!globalThis.isOld && document.readyState === 'complete'").await;
    }

    /// Runs this in each page from the next on, before the page's own scripts.
    pub(crate) async fn before_each_page(&self, script: &str) {
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).await;
    }

    /// Brings the tab to the front, which hides the one that was there.
    pub(crate) async fn show(&self) {
        self.call("Page.bringToFront", json!({})).await;
        self.wait_for("document.visibilityState === 'visible'").await;
    }

    /// Makes of the window a phone, upright and with a finger in place of a mouse.
    pub(crate) async fn be_a_phone(&self, width: u32, height: u32) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": true});
        self.call("Emulation.setDeviceMetricsOverride", screen).await;
        self.call("Emulation.setTouchEmulationEnabled", json!({"enabled": true})).await;
    }

    /// Makes the window this large.
    pub(crate) async fn be_as_large_as(&self, width: u32, height: u32) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", screen).await;
    }

    /// Says what the person has set for all pages, such as `prefers-color-scheme` to `dark`.
    pub(crate) async fn prefer(&self, feature: &str, value: &str) {
        let features = json!({"features": [{"name": feature, "value": value}]});
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Cuts the tab off the network, or lets it back.
    pub(crate) async fn be_offline(&self, offline: bool) {
        let network = json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.call("Network.emulateNetworkConditions", network).await;
    }

    /// The value of an expression in the page. A promise is waited for.
    pub(crate) async fn evaluate(&self, expression: &str) -> Value {
        self.try_to_evaluate(expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    async fn try_to_evaluate(&self, expression: &str) -> Result<Value, String> {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.browser.try_to_call(&self.session, "Runtime.evaluate", parameters).await?;
        unless(&answer["exceptionDetails"], || answer["result"]["value"].clone())
    }

    /// Waits until an expression in the page is true.
    pub(crate) async fn wait_for(&self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        // While a page is replaced by the next there is none to look at.
        while self.try_to_evaluate(expression).await != Ok(Value::Bool(true)) {
            let shown = if Instant::now() < until { String::new() } else { self.text().await };
            assert!(Instant::now() < until, "never: {expression}; the page shows:\n{shown}");
            sleep(GLANCE).await;
        }
    }

    /// Waits until the page shows these words.
    pub(crate) async fn sees(&self, words: &str) {
        self.wait_for(&format!("document.body?.innerText.includes({}) === true", json!(words))).await;
    }

    /// What a person reads.
    pub(crate) async fn text(&self) -> String {
        text(&self.evaluate("document.body.innerText").await)
    }

    /// Clicks what has this role and name, in the middle of where it is seen.
    pub(crate) async fn click(&self, role: &str, name: &str) {
        let (x, y) = self.place(role, name).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Types into what has the focus.
    pub(crate) async fn type_in(&self, words: &str) {
        self.call("Input.insertText", json!({"text": words})).await;
    }

    /// Presses a key that has a name, such as `Tab` or `Enter`.
    pub(crate) async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            _ => panic!("{key} is not known here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// The middle of what has this role and name, once it is there.
    async fn place(&self, role: &str, name: &str) -> (f64, f64) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(place) = self.try_to_place(role, name).await {
                return place;
            }
            let shown = if Instant::now() < until { String::new() } else { self.text().await };
            assert!(Instant::now() < until, "there is no {role} {name:?}; the page shows:\n{shown}");
            sleep(GLANCE).await;
        }
    }

    async fn try_to_place(&self, role: &str, name: &str) -> Result<(f64, f64), String> {
        let call = async |method, parameters| self.browser.try_to_call(&self.session, method, parameters).await;
        let document = call("DOM.getDocument", json!({"depth": 0})).await?;
        let query = json!({"nodeId": document["root"]["nodeId"], "role": role, "accessibleName": name});
        let found = call("Accessibility.queryAXTree", query).await?;
        let nodes = found["nodes"].as_array().cloned().unwrap_or_default();
        let [node] = nodes.as_slice() else { return Err(format!("{} are called so", nodes.len())) };
        let node = json!({"backendNodeId": node["backendDOMNodeId"]});
        call("DOM.scrollIntoViewIfNeeded", node.clone()).await?;
        let quads = call("DOM.getContentQuads", node).await?;
        let corners: Vec<f64> = quads["quads"][0].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let [left, top, _, _, right, bottom, ..] = corners[..] else { return Err("it is not seen".to_owned()) };
        Ok((f64::midpoint(left, right), f64::midpoint(top, bottom)))
    }

    /// The names of what a screen reader finds with this role, in order.
    pub(crate) async fn named(&self, role: &str) -> Vec<String> {
        let tree = self.call("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let of_role = nodes.iter().filter(|node| node["ignored"] != true && node["role"]["value"] == role);
        of_role.map(|node| text(&node["name"]["value"])).collect()
    }

    /// Writes what is seen into a file.
    pub(crate) async fn picture(&self, path: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png", "optimizeForSpeed": false})).await;
        let bytes = BASE64_STANDARD.decode(text(&picture["data"])).expect("a picture is base64");
        fs::write(path, bytes).expect("the picture is written");
    }

    /// The requests that the tab has sent so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen(|seen| seen.requests.clone())
    }

    /// What a developer would see in red in the console: exceptions, refusals of the content security policy, and errors that
    /// the page itself reports; not the answers of servers, which the page is there to deal with.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.seen(|seen| seen.complaints.clone())
    }

    fn seen<T>(&self, of: impl FnOnce(&Seen) -> T) -> T {
        of(self.browser.state().tabs.entry(self.session.clone()).or_default())
    }

    /// Closes the tab.
    pub(crate) async fn close(self) {
        self.browser.call("", "Target.closeTarget", json!({"targetId": self.target})).await;
    }

    async fn call(&self, method: &str, parameters: Value) -> Value {
        self.browser.call(&self.session, method, parameters).await
    }
}

async fn send(mut input: impl AsyncWrite + Unpin, mut messages: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(message) = messages.recv().await {
        if input.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn receive(output: impl AsyncRead + Unpin, state: Arc<Mutex<State>>) {
    let (mut output, mut message) = (BufReader::new(output), Vec::new());
    while output.read_until(0, &mut message).await.is_ok_and(|length| length > 0) {
        message.pop();
        if let Ok(message) = serde_json::from_slice(&message) {
            locked(&state).take(&message);
        }
        message.clear();
    }
    // Nobody waits for a browser that is gone.
    locked(&state).waiting.clear();
}

impl State {
    fn take(&mut self, message: &Value) {
        if let Some(id) = message["id"].as_u64() {
            let Some(waiting) = self.waiting.remove(&id) else { return };
            drop(waiting.send(unless(&message["error"], || message["result"].clone())));
            return;
        }
        let Some(session) = message["sessionId"].as_str() else { return };
        let (seen, about) = (self.tabs.entry(session.to_owned()).or_default(), &message["params"]);
        match message["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                let (method, url) = (text(&about["request"]["method"]), text(&about["request"]["url"]));
                seen.requests.push(Request { method, url });
            }
            "Runtime.exceptionThrown" => seen.complaints.push(about["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if about["type"] == "error" => seen.complaints.push(about["args"].to_string()),
            "Log.entryAdded" if about["entry"]["level"] == "error" && about["entry"]["source"] != "network" => {
                seen.complaints.push(text(&about["entry"]["text"]));
            }
            _ => {}
        }
    }
}

/// A value, unless there is a fault instead.
fn unless(fault: &Value, value: impl FnOnce() -> Value) -> Result<Value, String> {
    if fault.is_null() { Ok(value()) } else { Err(fault.to_string()) }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
