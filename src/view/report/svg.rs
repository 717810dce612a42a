//! Charts as inline SVG: lines, stacked bars, a timeline of workers, small histograms.
//!
//! Data comes as plain numbers from the report and goes into its page as text. Values that are not finite are gaps.
//! Colours are classes (`c0` to `c6`), which the page's style sheet defines for light and dark. Coordinates are in the
//! units of the view box, [`WIDTH`] wide; the page scales them.

use super::html::escape;

/// Width of every chart in units of its view box.
pub const WIDTH: f64 = 900.0;
/// Most points that one line is drawn with.
pub const MOST_POINTS: usize = 2000;
/// Colours of the style sheet.
pub const COLOURS: usize = 7;

/// Most entries of a legend; beyond, the read-out under the pointer has to do.
const MOST_LEGEND: usize = 14;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 38.0;
const ROW: f64 = 26.0;

/// Round values along an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticks {
    /// The values, rising.
    pub values: Vec<f64>,
    /// Decimals that show them exactly.
    pub decimals: usize,
}

/// Ticks at multiples of 1, 2 or 5 times a power of ten, about `most` between two values.
pub fn round_ticks(low: f64, high: f64, most: u16) -> Ticks {
    let raw = (high - low) / f64::from(most.max(1));
    if !raw.is_finite() || raw <= 0.0 {
        return Ticks { values: vec![low], decimals: 0 };
    }
    let (mut unit, mut exponent) = (1.0f64, 0i32);
    while unit * 10.0 <= raw && exponent < 15 {
        unit *= 10.0;
        exponent += 1;
    }
    while unit > raw && exponent > -9 {
        unit /= 10.0;
        exponent -= 1;
    }
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * unit >= raw).unwrap_or(10.0);
    let step = factor * unit;
    let digits = if factor == 10.0 { exponent + 1 } else { exponent };
    // a hair of tolerance, since 0.3 / 0.1 is below 3
    let first = (low / step - 1e-9).ceil();
    let count = ((high / step + 1e-9).floor() - first).clamp(0.0, f64::from(most) + 1.0) as u32;
    // adding 0.0 turns -0.0 into 0.0
    let values = (0..=count).map(|index| (first + f64::from(index)) * step + 0.0).collect();
    Ticks { values, decimals: usize::try_from(-digits).unwrap_or(0) }
}

/// Fewer points that look the same: per bucket the lowest, the highest and, where there is one, a gap.
pub fn decimate(points: &[[f64; 2]], most: usize) -> Vec<[f64; 2]> {
    if points.len() <= most {
        return points.to_vec();
    }
    let size = points.len().div_ceil((most / 3).max(1));
    points.chunks(size).flat_map(bucket).collect()
}

fn bucket(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let sound = || points.iter().enumerate().filter(|(_, [_, y])| y.is_finite());
    let lowest = sound().min_by(|(_, a), (_, b)| a[1].total_cmp(&b[1]));
    let highest = sound().max_by(|(_, a), (_, b)| a[1].total_cmp(&b[1]));
    let gap = points.iter().enumerate().find(|(_, [_, y])| !y.is_finite());
    let mut kept: Vec<(usize, &[f64; 2])> = [lowest, highest, gap].into_iter().flatten().collect();
    kept.sort_by_key(|(index, _)| *index);
    kept.dedup_by_key(|(index, _)| *index);
    kept.into_iter().map(|(_, point)| *point).collect()
}

/// One line of a chart.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// x and y, x rising; a y that is not finite is a gap.
    pub points: Vec<[f64; 2]>,
    /// What tells it from the others; `None` goes by its place among them.
    pub look: Option<Look>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Colour, 0 to 6.
    pub colour: usize,
    /// 0 is solid, 1 dashed, 2 dotted.
    pub dash: usize,
}

impl Look {
    fn at(place: usize) -> Look {
        Look { colour: place % COLOURS, dash: place / COLOURS % 3 }
    }

    fn classes(self) -> String {
        format!("c{} d{}", self.colour % COLOURS, self.dash % 3)
    }
}

/// A name with its look, for the legend.
type Entry<'a> = (&'a str, Look);

/// A stretch of time with a reason.
#[derive(Clone, Debug)]
pub struct Band {
    /// Its begin on the x axis.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// Colour, 0 to 6.
    pub colour: usize,
    /// What it means.
    pub name: String,
}

/// Lines over a common x axis.
#[derive(Clone, Debug, Default)]
pub struct LineChart<'a> {
    /// x axis with unit.
    pub x_label: &'a str,
    /// y axis with unit.
    pub y_label: &'a str,
    /// What the x axis shows in any case.
    pub x_shows: &'a [f64],
    /// What the y axis shows in any case.
    pub y_shows: &'a [f64],
    /// The lines.
    pub series: Vec<Series>,
    /// Stretches of time behind them.
    pub bands: Vec<Band>,
    /// What the page says when there is no value.
    pub empty: &'a str,
}

/// Values on an axis and where they lie.
struct Scale {
    low: f64,
    high: f64,
    low_px: f64,
    high_px: f64,
}

impl Scale {
    /// An axis from the lowest to the highest value; `None` without any finite value.
    fn over(values: impl Iterator<Item = f64>, low_px: f64, high_px: f64) -> Option<Scale> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        (low <= high).then(|| Scale::new(low, high, low_px, high_px))
    }

    fn new(low: f64, high: f64, low_px: f64, high_px: f64) -> Scale {
        // a single value needs some room around it
        if high > low {
            Scale { low, high, low_px, high_px }
        } else {
            Scale { low: low - 0.5, high: high + 0.5, low_px, high_px }
        }
    }

    fn px(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.low_px + share.clamp(0.0, 1.0) * (self.high_px - self.low_px)
    }

    fn attribute(&self) -> String {
        format!("{:.1},{:.1},{},{}", self.low_px, self.high_px, self.low, self.high)
    }
}

/// A chart of lines, or the words for an empty one.
pub fn line_chart(chart: &LineChart) -> String {
    const HEIGHT: f64 = 240.0;
    let points =
        || chart.series.iter().flat_map(|series| &series.points).filter(|[x, y]| x.is_finite() && y.is_finite());
    let band_ends = chart.bands.iter().flat_map(|band| [band.from, band.to]);
    let (x_shows, y_shows) = (chart.x_shows.iter().copied(), chart.y_shows.iter().copied());
    let x = Scale::over(points().map(|[x, _]| *x).chain(band_ends).chain(x_shows), LEFT, WIDTH - RIGHT);
    let y = Scale::over(points().map(|[_, y]| *y).chain(y_shows), HEIGHT - BOTTOM, TOP);
    let (Some(x), Some(y), Some(_)) = (x, y, points().next()) else { return empty(chart.empty) };

    let mut svg = open(HEIGHT, chart.y_label, &x, &y);
    for band in chart.bands.iter().filter(|band| band.from.is_finite() && band.to.is_finite()) {
        let (from, to) = (x.px(band.from), x.px(band.to));
        svg.push_str(&format!(
            "<rect class=\"band c{}\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
            band.colour % COLOURS,
            (to - from).max(0.5),
            HEIGHT - BOTTOM - TOP,
            escape(&band.name)
        ));
    }
    axes(&mut svg, HEIGHT, (&x, chart.x_label), (&y, chart.y_label));
    let look = |(place, series): (usize, &Series)| series.look.unwrap_or(Look::at(place));
    for (place, series) in chart.series.iter().enumerate() {
        draw_series(&mut svg, series, look((place, series)), &x, &y);
    }
    svg.push_str("</svg>");
    let looks = chart.series.iter().enumerate().map(look);
    svg.push_str(&legend_of(chart.series.iter().map(|series| series.name.as_str()).zip(looks), "line"));
    svg.push_str(&band_legend(&chart.bands));
    svg
}

fn draw_series(svg: &mut String, series: &Series, look: Look, x: &Scale, y: &Scale) {
    let class = look.classes();
    let name = escape(&series.name);
    let points = decimate(&series.points, MOST_POINTS);
    for run in points.split(|[x, y]| !x.is_finite() || !y.is_finite()) {
        match run {
            [] => {}
            [[at, value]] => svg.push_str(&format!(
                "<circle class=\"dot {class}\" data-name=\"{name}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\"/>",
                x.px(*at),
                y.px(*value)
            )),
            _ => {
                let places: Vec<String> =
                    run.iter().map(|[at, value]| format!("{:.1},{:.1}", x.px(*at), y.px(*value))).collect();
                svg.push_str(&format!(
                    "<polyline class=\"line {class}\" data-name=\"{name}\" points=\"{}\"/>",
                    places.join(" ")
                ));
            }
        }
    }
}

/// Counts of one kind per bin.
#[derive(Clone, Debug)]
pub struct Stack {
    /// What is counted.
    pub name: String,
    /// Count per bin.
    pub counts: Vec<u64>,
}

/// Bars over bins of equal width between two x, kinds stacked on each other; words when all counts are 0.
pub fn stacked_bars(x_range: [f64; 2], stacks: &[Stack], x_label: &str, y_label: &str, words: &str) -> String {
    const HEIGHT: f64 = 180.0;
    let bins = stacks.iter().map(|stack| stack.counts.len()).max().unwrap_or(0);
    let count = |stack: &Stack, bin: usize| stack.counts.get(bin).copied().unwrap_or(0);
    let sum = |bin: usize| stacks.iter().map(|stack| count(stack, bin)).fold(0, u64::saturating_add);
    let most = (0..bins).map(sum).max().unwrap_or(0);
    if most == 0 || !x_range.iter().all(|end| end.is_finite()) {
        return empty(words);
    }
    let x = Scale::new(x_range[0], x_range[1], LEFT, WIDTH - RIGHT);
    let y = Scale::new(0.0, most as f64, HEIGHT - BOTTOM, TOP);
    let mut svg = open(HEIGHT, y_label, &x, &y);
    axes(&mut svg, HEIGHT, (&x, x_label), (&y, y_label));
    let bin_px = (x.high_px - x.low_px) / bins as f64;
    for bin in 0..bins {
        let mut below = 0u64;
        for (index, stack) in stacks.iter().enumerate() {
            let height = count(stack, bin);
            if height == 0 {
                continue;
            }
            let above = below.saturating_add(height);
            let (top, bottom) = (y.px(above as f64), y.px(below as f64));
            svg.push_str(&format!(
                "<rect class=\"bar c{}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}: {height}</title></rect>",
                index % COLOURS,
                x.low_px + bin as f64 * bin_px,
                (bin_px - 1.0).max(0.5),
                bottom - top,
                escape(&stack.name)
            ));
            below = above;
        }
    }
    svg.push_str("</svg>");
    svg.push_str(&legend(stacks.iter().map(|stack| stack.name.as_str()), "block"));
    svg
}

/// One piece of work on the timeline.
#[derive(Clone, Debug)]
pub struct Work {
    /// Row, from 0.
    pub row: usize,
    /// Begin on the x axis.
    pub from: f64,
    /// End on the x axis.
    pub to: f64,
    /// Index into the names.
    pub kind: usize,
    /// What the pointer reads out.
    pub title: String,
}

/// Bars in rows over time; words when there is no work.
pub fn timeline(rows: &[String], kinds: &[String], works: &[Work], x_label: &str, words: &str) -> String {
    let height = TOP + BOTTOM + ROW * rows.len() as f64;
    let ends = works.iter().flat_map(|work| [work.from, work.to]);
    let Some(x) = Scale::over(ends, LEFT + 30.0, WIDTH - RIGHT) else { return empty(words) };
    let y = Scale::new(0.0, rows.len() as f64, TOP, height - BOTTOM);
    let mut svg = open(height, x_label, &x, &y);
    x_axis(&mut svg, height, &x, x_label);
    for (index, name) in rows.iter().enumerate() {
        let middle = TOP + ROW * (index as f64 + 0.5);
        svg.push_str(&format!(
            "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT + 24.0,
            middle + 4.0,
            escape(name)
        ));
    }
    for work in works {
        let (from, to) = (x.px(work.from), x.px(work.to));
        let top = TOP + ROW * work.row as f64 + 2.0;
        svg.push_str(&format!(
            "<rect class=\"bar c{}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
            work.kind % COLOURS,
            (to - from).max(0.7),
            ROW - 4.0,
            escape(&work.title)
        ));
    }
    svg.push_str("</svg>");
    svg.push_str(&legend(kinds.iter().map(String::as_str), "block"));
    svg
}

/// A histogram as small as a word; empty text without counts.
pub fn spark(counts: &[u64]) -> String {
    let most = counts.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let width = 160.0 / counts.len() as f64;
    let mut svg = "<svg class=\"spark\" viewBox=\"0 0 160 24\" role=\"img\" aria-label=\"histogram\">".to_owned();
    for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        // one count among millions is still to be seen
        let height = (24.0 * (*count as f64) / most as f64).max(1.0);
        svg.push_str(&format!(
            "<rect class=\"bar c1\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
            index as f64 * width,
            24.0 - height,
            (width - 0.5).max(0.5)
        ));
    }
    svg.push_str("</svg>");
    svg
}

fn empty(words: &str) -> String {
    format!("<p class=\"empty\">{}</p>", escape(words))
}

fn open(height: f64, label: &str, x: &Scale, y: &Scale) -> String {
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\" data-x=\"{}\" data-y=\"{}\">",
        escape(label),
        x.attribute(),
        y.attribute()
    )
}

fn axes(svg: &mut String, height: f64, (x, x_label): (&Scale, &str), (y, y_label): (&Scale, &str)) {
    let ticks = round_ticks(y.low, y.high, 5);
    for value in &ticks.values {
        let at = y.px(*value);
        svg.push_str(&format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{value:.*}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            ticks.decimals
        ));
    }
    let middle = 0.5 * (TOP + height - BOTTOM);
    svg.push_str(&format!(
        "<text class=\"mid\" transform=\"translate(13 {middle:.1}) rotate(-90)\">{}</text>",
        escape(y_label)
    ));
    x_axis(svg, height, x, x_label);
}

fn x_axis(svg: &mut String, height: f64, x: &Scale, label: &str) {
    let ticks = round_ticks(x.low, x.high, 9);
    let base = height - BOTTOM;
    svg.push_str(&format!(
        "<line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{base}\" y2=\"{base}\"/>",
        x.low_px, x.high_px
    ));
    for value in &ticks.values {
        let at = x.px(*value);
        svg.push_str(&format!(
            "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{base}\" y2=\"{:.1}\"/><text class=\"mid\" x=\"{at:.1}\" y=\"{:.1}\">{value:.*}</text>",
            base + 4.0,
            base + 17.0,
            ticks.decimals
        ));
    }
    let middle = 0.5 * (x.low_px + x.high_px);
    svg.push_str(&format!("<text class=\"mid\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>", height - 4.0, escape(label)));
}

/// A legend of what looks as its place says.
fn legend<'a>(names: impl Iterator<Item = &'a str>, mark: &str) -> String {
    legend_of(names.enumerate().map(|(place, name)| (name, Look::at(place))), mark)
}

fn legend_of<'a>(entries: impl Iterator<Item = Entry<'a>>, mark: &str) -> String {
    let entries: Vec<Entry> = entries.collect();
    let mut list = "<ul class=\"legend\">".to_owned();
    for (name, look) in entries.iter().take(MOST_LEGEND) {
        list.push_str(&format!("<li><i class=\"{mark} {}\"></i>{}</li>", look.classes(), escape(name)));
    }
    if entries.len() > MOST_LEGEND {
        list.push_str(&format!("<li>and {} more: point at a line for its name</li>", entries.len() - MOST_LEGEND));
    }
    list.push_str("</ul>");
    list
}

fn band_legend(bands: &[Band]) -> String {
    let mut kinds: Vec<(usize, &str)> = bands.iter().map(|band| (band.colour % COLOURS, band.name.as_str())).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        return String::new();
    }
    let items: Vec<String> = kinds
        .iter()
        .map(|(colour, name)| format!("<li><i class=\"band c{colour}\"></i>{}</li>", escape(name)))
        .collect();
    format!("<ul class=\"legend\"><li>background:</li>{}</ul>", items.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, most: u16) -> Vec<String> {
        let ticks = round_ticks(low, high, most);
        ticks.values.iter().map(|value| format!("{value:.*}", ticks.decimals)).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(0.0, 10.0, 5), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(0.0, 0.3, 3), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(-3.0, 4.2, 4), ["-2", "0", "2", "4"]);
        assert_eq!(labels(0.0, 97.0, 5), ["0", "20", "40", "60", "80"]);
        assert_eq!(labels(0.0, 38.0, 5), ["0", "10", "20", "30"]);
        assert_eq!(labels(0.0012, 0.0049, 4), ["0.002", "0.003", "0.004"]);
        assert_eq!(labels(1000.0, 260_000.0, 6), ["50000", "100000", "150000", "200000", "250000"]);
    }

    #[test]
    fn ticks_of_nonsense_end() {
        assert_eq!(round_ticks(3.0, 3.0, 5).values, [3.0]);
        assert_eq!(round_ticks(5.0, f64::INFINITY, 5).values, [5.0]);
        assert!(round_ticks(0.0, 1e300, 5).values.len() <= 7);
        assert!(round_ticks(0.0, 1e-300, 5).values.len() <= 7);
    }

    #[test]
    fn decimation_keeps_extremes_and_gaps() {
        let mut points: Vec<[f64; 2]> = (0..100_000).map(|at| [f64::from(at), f64::from(at % 10)]).collect();
        points[54_321][1] = 99.0;
        points[12_345][1] = -99.0;
        points[77_777][1] = f64::NAN;
        let few = decimate(&points, 2000);
        assert!(few.len() <= 2000, "{}", few.len());
        assert!(few.contains(&[54_321.0, 99.0]) && few.contains(&[12_345.0, -99.0]));
        assert_eq!(few.iter().filter(|[_, y]| y.is_nan()).count(), 1);
        assert!(few.windows(2).all(|pair| pair[0][0] < pair[1][0]));
        assert_eq!(decimate(&points[..5], 2000), points[..5]);
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let points =
            vec![[0.0, 1.0], [1.0, 2.0], [2.0, f64::NAN], [3.0, 3.0], [4.0, 1.0], [5.0, f64::INFINITY], [6.0, 2.0]];
        let series = vec![Series { name: "a<b".to_owned(), points, look: None }];
        let chart = LineChart { series, ..LineChart::default() };
        let svg = line_chart(&chart);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("a&lt;b") && !svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn charts_without_values_are_words() {
        let nothing = LineChart { empty: "nothing was closing in", y_shows: &[0.0], ..LineChart::default() };
        assert_eq!(line_chart(&nothing), "<p class=\"empty\">nothing was closing in</p>");
        assert!(stacked_bars([0.0, 1.0], &[], "x", "y", "none").contains("none"));
        assert!(timeline(&[], &[], &[], "x", "none").contains("none"));
        assert_eq!(spark(&[0, 0]), "");
    }

    #[test]
    fn a_line_looks_as_it_is_told_in_chart_and_legend() {
        let look = Some(Look { colour: 3, dash: 1 });
        let series = vec![Series { name: "a".to_owned(), points: vec![[0.2, 0.5], [0.4, 0.5]], look }];
        let svg = line_chart(&LineChart { series, x_shows: &[0.0, 1.0], y_shows: &[0.0, 1.0], ..LineChart::default() });
        assert!(svg.contains("<polyline class=\"line c3 d1\"") && svg.contains("<i class=\"line c3 d1\">"), "{svg}");
        // a fifth of the way from 58 to 888
        assert!(svg.contains("points=\"224.0,"), "{svg}");
    }

    #[test]
    fn bars_stack() {
        let stack = |name: &str, counts: &[u64]| Stack { name: name.to_owned(), counts: counts.to_vec() };
        let svg = stacked_bars([0.0, 2.0], &[stack("a", &[3, 0]), stack("b", &[1, 2])], "x", "y", "none");
        assert_eq!(svg.matches("<rect").count(), 3);
        // 4 counts are as high as the plot: b's bar in the first bin begins at its top
        assert!(svg.contains("c1\" x=\"58.0\" y=\"8.0\""), "{svg}");
    }
}
