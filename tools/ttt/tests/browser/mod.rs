//! A look at pages through headless Chromium.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use resvg::tiny_skia::Pixmap;

/// Names under which it may be installed.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];
/// What a page is asked once it is laid out: script errors, whether it is wider than its window, and the first letters of a
/// chart that lie outside of it or over others.
const QUESTIONS: &str = r#"<script>
addEventListener("load", () => {
  const root = document.documentElement, found = [];
  if (root.scrollWidth > innerWidth) found.push("wider than the window: " + root.scrollWidth + " of " + innerWidth);
  let charts = 0;
  for (const svg of document.querySelectorAll("svg.chart")) {
    const frame = svg.getBoundingClientRect();
    if (!frame.width) continue;
    charts++;
    const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
    for (const [text, box] of texts) {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        found.push("cut off: " + text);
    }
    for (let i = 0; i < texts.length; i++) for (let j = 0; j < i; j++) {
      const [a, b] = [texts[i][1], texts[j][1]];
      if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2)
        found.push("over each other: " + texts[i][0] + ", " + texts[j][0]);
    }
  }
  for (const cell of document.querySelectorAll("td, th, p, h1, h2, h3"))
    if (cell.scrollWidth > cell.clientWidth + 1 && cell.clientWidth) found.push("cut off: " + cell.textContent.slice(0, 60));
  if (window.failed) found.push("script error: " + window.failed);
  root.setAttribute("data-looked", charts + " charts; " + found.join("; "));
});
</script>"#;
const LISTEN: &str = r#"<script>addEventListener("error", e => window.failed = e.message || "a resource");</script>"#;

/// The browser, if there is one.
pub struct Browser(&'static str);

impl Browser {
    /// `None`, with a line that says so, where none is installed.
    pub fn find() -> Option<Self> {
        let found = NAMES.iter().find(|name| {
            let mut version = Command::new(name);
            version
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            version.status().is_ok_and(|s| s.success())
        });
        if found.is_none() {
            println!(
                "skipped: no Chromium to look at pages with; install Debian's package chromium"
            );
        }
        found.map(|&name| Browser(name))
    }

    fn run(&self, folder: &Path, arguments: &[String]) -> String {
        let profile = tempfile::TempDir::new().expect("a folder");
        let output = Command::new(self.0)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("--hide-scrollbars")
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .expect("the browser starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Looks at a page in wide and narrow windows, in light and dark: every chart is drawn, nothing is cut off or over other
    /// things, no script fails, and the paper has the colour it should have.
    pub fn look(&self, path: &Path) {
        let html = fs::read_to_string(path).expect("a page");
        let folder = path.parent().expect("a folder");
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        for (dark, paper) in [(false, (0xfd, 0xfd, 0xfb)), (true, (0x16, 0x17, 0x19))] {
            let scheme = if dark { "all" } else { "not all" };
            let html = html.replace("(prefers-color-scheme: dark)", scheme);
            for width in [1280, 520] {
                let here = format!("{name} at {width}, dark: {dark}");
                let asked = html.replace("<head>", &format!("<head>{LISTEN}"));
                let asked = asked.replace("</body>", &format!("{QUESTIONS}</body>"));
                let copy = folder.join("looked_at.html");
                fs::write(&copy, asked).expect("written");
                let url = format!("file://{}", copy.display());
                let size = format!("--window-size={width},1600");
                let dom = self.run(folder, &["--dump-dom".into(), size.clone(), url.clone()]);
                let said = dom
                    .split("data-looked=\"")
                    .nth(1)
                    .and_then(|s| s.split('"').next());
                let said = said.unwrap_or_else(|| panic!("{here}: the page was not laid out"));
                let (charts, found) = said.split_once(" charts; ").expect("as asked");
                assert_ne!(charts, "0", "{here}: no chart is drawn");
                assert_eq!(found, "", "{here}");

                let shot = folder.join("looked_at.png");
                let screenshot = format!("--screenshot={}", shot.display());
                self.run(folder, &[screenshot, size, url]);
                let picture = Pixmap::load_png(&shot).expect("a picture");
                let colour = |x: u32, y: u32| {
                    let p = picture.pixel(x, y).expect("inside");
                    (p.red(), p.green(), p.blue())
                };
                assert_eq!(colour(2, 2), paper, "{here}");
                let mut colours = std::collections::HashSet::new();
                for y in (0..picture.height()).step_by(3) {
                    colours.extend((0..picture.width()).step_by(2).map(|x| colour(x, y)));
                }
                assert!(colours.len() > 20, "{here}: {} colours", colours.len());
            }
        }
    }
}
