//! The page around the charts: escaping, facts, tables, embedded pictures, style sheet and read-out.
//!
//! Data comes as text from the report and goes into one HTML file that needs no network. Every text from outside passes
//! [`escape`]; what is named `html` is markup already.

/// Text as HTML shows it, safe in content and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            // HTML forbids control characters even as references
            control if control.is_control() && control != '\n' && control != '\t' => html.push('\u{FFFD}'),
            other => html.push(other),
        }
    }
    html
}

/// Base64 with padding (RFC 4648, section 4).
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for place in 0..4usize {
            let letter = LETTERS[((bits >> (18 - 6 * place)) & 63) as usize];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// What is known at the top of a page: key and value.
pub fn facts(facts: &[(String, String)]) -> String {
    let pair = |(key, value): &(String, String)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(key), escape(value));
    let pairs: Vec<String> = facts.iter().map(pair).collect();
    format!("<dl>{}</dl>", pairs.concat())
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Words, left-aligned.
    Text(String),
    /// A number, right-aligned.
    Number(String),
    /// Something to copy, in a typewriter face.
    Code(String),
    /// Markup that is put in as it is.
    Html(String),
}

/// A table; words where it has no rows.
pub fn table(head: &[&str], rows: &[Vec<Cell>], words: &str) -> String {
    if rows.is_empty() {
        return format!("<p class=\"empty\">{}</p>", escape(words));
    }
    let mut html = "<div class=\"wide\"><table><thead><tr>".to_owned();
    for title in head {
        html.push_str(&format!("<th scope=\"col\">{}</th>", escape(title)));
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            html.push_str(&match cell {
                Cell::Text(text) => format!("<td>{}</td>", escape(text)),
                Cell::Number(text) => format!("<td class=\"number\">{}</td>", escape(text)),
                Cell::Code(text) => format!("<td><code>{}</code></td>", escape(text)),
                Cell::Html(html) => format!("<td>{html}</td>"),
            });
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>");
    html
}

/// A picture with its caption; a click shows it as large as the window.
pub fn picture(jpeg: &[u8], caption: &str) -> String {
    let caption = escape(caption);
    format!(
        "<label class=\"picture\"><input type=\"checkbox\" aria-label=\"enlarge\"><img loading=\"lazy\" alt=\"{caption}\" src=\"data:image/jpeg;base64,{}\"><span>{caption}</span></label>\n",
        base64(jpeg)
    )
}

/// A chart with its title and words that say how to read it, on a page without a script.
pub fn explained(title: &str, chart_html: &str, words: &str) -> String {
    let (title, words) = (escape(title), escape(words));
    format!("<figure><figcaption>{title}</figcaption>{chart_html}<p class=\"words\">{words}</p></figure>\n")
}

/// A chart with its title and a place for what [`READ_OUT`] reads.
pub fn figure(title: &str, chart_html: &str) -> String {
    format!("<figure><figcaption>{}</figcaption>{chart_html}<output class=\"read\"></output></figure>\n", escape(title))
}

/// One part of the page.
pub struct Section {
    /// Anchor; letters only.
    pub id: &'static str,
    /// Heading.
    pub title: &'static str,
    /// Markup below the heading.
    pub html: String,
}

/// The whole page; without a script it is all markup.
pub fn page(title: &str, intro_html: &str, sections: &[Section], script: Option<&str>) -> String {
    let title = escape(title);
    let links: Vec<String> =
        sections.iter().map(|section| format!("<a href=\"#{}\">{}</a>", section.id, section.title)).collect();
    let parts: Vec<String> = sections
        .iter()
        .map(|Section { id, title, html }| format!("<section id=\"{id}\"><h2>{title}</h2>\n{html}</section>\n"))
        .collect();
    let script = script.map(|script| format!("<script>{script}</script>\n")).unwrap_or_default();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<header><h1>{title}</h1>\n<nav>{}</nav></header>\n<main>\n{intro_html}\n{}</main>\n\
         {script}</body>\n</html>\n",
        links.join(" "),
        parts.concat()
    )
}

/// Colours c0 to c6 follow Okabe and Ito, darkened on white where they would be too pale.
const STYLE: &str = r#"
:root { --ink: #1c2024; --soft: #5d6670; --page: #fbfbfa; --card: #ffffff; --edge: #dcdfe3; --warn: #a33b00;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b8578f; --c4: #c98a00; --c5: #3a9bd0; --c6: #4b4f55; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --soft: #98a1ab; --page: #14171a; --card: #1b1f23; --edge: #343a41; --warn: #ff9b5e;
    --c0: #4aa8e0; --c1: #f07b2e; --c2: #22bf92; --c3: #d992b8; --c4: #e6a92b; --c5: #8ccdf2; --c6: #b9bfc6; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
header, main { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 24px; }
h1 { font-size: 26px; margin: 0 0 6px; }
h2 { font-size: 19px; margin: 36px 0 10px; padding-bottom: 4px; border-bottom: 1px solid var(--edge); }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin-bottom: 16px; }
a { color: var(--c0); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 20px; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.notes { margin: 16px 0 0; padding: 0; list-style: none; }
.notes li { padding: 6px 12px; margin: 6px 0; background: var(--card); border-left: 4px solid var(--c0); }
.notes li.warning { border-color: var(--warn); }
.notes b { margin-right: 6px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 50%; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--edge); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font: 13px ui-monospace, monospace; }
.bad { color: var(--warn); font-weight: 600; }
.empty { color: var(--soft); font-style: italic; }
figure { margin: 0 0 20px; padding: 12px 14px 8px; background: var(--card); border: 1px solid var(--edge); border-radius: 6px; }
figcaption { font-weight: 600; margin-bottom: 6px; }
svg.chart { display: block; width: 100%; height: auto; }
svg.spark { width: 160px; height: 24px; display: block; }
svg text { fill: var(--soft); font-size: 12px; }
svg .end { text-anchor: end; }
svg .mid { text-anchor: middle; }
svg .grid { stroke: var(--edge); }
svg .axis { stroke: var(--soft); }
svg .line { fill: none; stroke: var(--c); stroke-width: 1.6; stroke-linejoin: round; }
svg .dot, svg .bar { fill: var(--c); }
svg .band { fill: var(--c); opacity: 0.16; }
svg .d1 { stroke-dasharray: 6 3; }
svg .d2 { stroke-dasharray: 2 3; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; padding: 0; list-style: none; font-size: 13px; }
.legend i { display: inline-block; margin-right: 6px; vertical-align: middle; }
.legend i.line { width: 18px; border-top: 2px solid var(--c); }
.legend i.line.d1 { border-top-style: dashed; }
.legend i.line.d2 { border-top-style: dotted; }
.legend i.block, .legend i.band { width: 12px; height: 12px; background: var(--c); }
.legend i.band { opacity: 0.35; }
.read { display: block; min-height: 1.5em; font-size: 13px; color: var(--soft); font-variant-numeric: tabular-nums; }
.words { margin: 4px 0; font-size: 13px; color: var(--soft); }
.measures { columns: 440px; column-gap: 32px; }
.measures table { width: 100%; margin-bottom: 14px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 14px; }
.picture { position: relative; cursor: zoom-in; }
.picture input { position: absolute; opacity: 0; }
.picture img { display: block; width: 100%; border-radius: 4px; }
.picture span { color: var(--soft); font-size: 13px; }
.picture input:focus-visible + img { outline: 3px solid var(--c0); }
.picture input:checked + img { position: fixed; inset: 0; z-index: 1; width: 100vw; height: 100vh; object-fit: contain;
  background: rgb(0 0 0 / 92%); border-radius: 0; cursor: zoom-out; }
@media print { nav, .read { display: none; } }
"#;

/// Script that reads out the lines' values under the pointer, over time. Places are turned back into values, so the page
/// holds them once.
pub const READ_OUT: &str = r#"
for (const svg of document.querySelectorAll("svg.chart")) {
  const read = svg.closest("figure").querySelector(".read");
  const lines = [...svg.querySelectorAll("[data-name]")].map(e => ({ name: e.dataset.name, points:
    (e.getAttribute("points") || e.getAttribute("cx") + "," + e.getAttribute("cy")).split(" ").map(p => p.split(",").map(Number)) }));
  if (!read || !lines.length) continue;
  const [x, y] = [svg.dataset.x, svg.dataset.y].map(text => text.split(",").map(Number));
  const value = ([a, b, low, high], px) => low + (px - a) / (b - a) * (high - low);
  const say = number => Number(number.toPrecision(4)).toString();
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    const px = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const near = new Map();
    for (const line of lines) for (const point of line.points) {
      const distance = Math.abs(point[0] - px), best = near.get(line.name);
      if (distance < 8 && (!best || distance < best.distance)) near.set(line.name, { distance, y: point[1] });
    }
    const words = [...near].slice(0, 12).map(([name, found]) => name + ": " + say(value(y, found.y)));
    read.textContent = "at " + say(value(x, px)) + " s   " + words.join("   ");
  });
  svg.addEventListener("pointerleave", () => { read.textContent = ""; });
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escape("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
        assert_eq!(escape("ä\u{0}\n"), "ä\u{FFFD}\n");
    }

    #[test]
    fn base64_matches_the_test_vectors_of_rfc_4648() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xFB, 0xFF, 0xFE]), "+//+");
    }

    #[test]
    fn tables_align_and_escape() {
        let row = vec![Cell::Text("<b>".to_owned()), Cell::Number("7".to_owned())];
        let html = table(&["name", "count"], &[row], "nothing");
        assert!(html.contains("<td>&lt;b&gt;</td><td class=\"number\">7</td>"), "{html}");
        assert_eq!(table(&["name"], &[], "nothing <here>"), "<p class=\"empty\">nothing &lt;here&gt;</p>");
    }

    #[test]
    fn a_caption_cannot_leave_its_attribute() {
        let html = picture(&[0xFF, 0xD8], "\"><script>");
        assert!(!html.contains("<script>") && html.contains("base64,/9g=\""), "{html}");
    }
}
