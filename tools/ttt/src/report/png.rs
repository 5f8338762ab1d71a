//! Charts as pictures, for places that take no HTML.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::page::{CHART, STYLE};

/// Pixels per unit of a chart.
const SCALE: f32 = 2.0;

/// A chart as PNG on light paper. Its letters come with the program, so that it is the same on every machine.
pub fn png(svg: &str) -> Vec<u8> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().map(|f| f.families[0].0.clone());
    let family = family.expect("the font is one");
    let options = Options {
        font_family: family.clone(),
        fontdb: Arc::new(fonts),
        ..Options::default()
    };
    let tree = Tree::from_str(&standalone(svg, &family), &options);
    let tree = tree.expect("charts are well-formed");
    let size = tree.size().to_int_size().scale_by(SCALE);
    let size = size.expect("a chart has a size");
    let mut picture = Pixmap::new(size.width(), size.height()).expect("a size that is not zero");
    resvg::render(
        &tree,
        Transform::from_scale(SCALE, SCALE),
        &mut picture.as_mut(),
    );
    picture.encode_png().expect("a picture in memory")
}

/// The chart with its style, and paper under it.
fn standalone(svg: &str, family: &str) -> String {
    let mut style = CHART.to_string();
    // names that begin like others come after them in no style sheet: every use is closed by a bracket
    for (name, value) in colours() {
        style = style.replace(&format!("var(--{name})"), value);
    }
    let paper = colours().find(|c| c.0 == "paper").map_or("white", |c| c.1);
    let (open, rest) = svg.split_once('>').expect("an element");
    format!(
        r#"{open} xmlns="http://www.w3.org/2000/svg"><style>{style} text {{ font-family: "{family}"; }}</style><rect width="100%" height="100%" fill="{paper}"/>{rest}"#
    )
}

/// The colours of light pages: those of the style sheet's first rule.
fn colours() -> impl Iterator<Item = (&'static str, &'static str)> {
    let first = STYLE.split('}').next().unwrap_or("");
    let declarations = first.split([';', '{']);
    declarations.filter_map(|d| d.trim().strip_prefix("--")?.split_once(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_of_a_picture_has_no_open_names() {
        let text = standalone(r#"<svg viewBox="0 0 10 10"></svg>"#, "Ubuntu");
        assert!(!text.contains("var("), "{text}");
        assert!(text.contains("#0072b2"));
    }

    #[test]
    fn a_picture_has_the_colours_of_its_chart() {
        let svg = r#"<svg class="chart" viewBox="0 0 20 30"><line class="line s0" x1="0" x2="20" y1="5" y2="5" /><text class="tick" x="2" y="27">8K</text></svg>"#;
        let picture = Pixmap::decode_png(&png(svg)).expect("a picture");
        assert_eq!((picture.width(), picture.height()), (40, 60));
        let colour = |x, y| {
            let p = picture.pixel(x, y).expect("inside");
            (p.red(), p.green(), p.blue())
        };
        assert_eq!(colour(20, 9), (0x00, 0x72, 0xb2));
        assert_eq!(colour(39, 0), (0xfd, 0xfd, 0xfb));
        let ink = |y: u32| (0..40).any(|x| colour(x, y) != (0xfd, 0xfd, 0xfb));
        assert!((42..52).all(ink), "letters");
    }
}
