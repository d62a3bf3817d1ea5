//! Charts of the measurements, drawn without external tools.

use std::fmt::Write;

use crate::fleet::Measured;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const EDGE: f64 = 60.0;
const SERIES: [(&str, &str); 4] = [
    ("made", "#2f6fb3"),
    ("at rest", "#3a8f4d"),
    ("restart", "#c77d1e"),
    ("key roll", "#b3403a"),
];

/// Draws memory and CPU by number of tokens, side by side.
pub fn draw(all: &[Measured]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * (WIDTH + 2.0 * EDGE),
        HEIGHT + 2.0 * EDGE
    );
    let points = |value: &dyn Fn(&Measured) -> f64| {
        let point = |it: &Measured| (f64::from(u32::try_from(it.n).expect("few")), value(it));
        all.iter().map(point).collect::<Vec<_>>()
    };
    let memory: Vec<_> = (0..4)
        .map(|place| (SERIES[place], points(&|it| it.memory[place])))
        .collect();
    panel(&mut svg, 0.0, "most memory, MiB", &memory);
    let cpu = [(("", "#2f6fb3"), points(&|it| it.cpu))];
    panel(
        &mut svg,
        WIDTH + 2.0 * EDGE,
        "CPU per identity with its token, ms",
        &cpu,
    );
    svg + "</svg>\n"
}

type Line = ((&'static str, &'static str), Vec<(f64, f64)>);

fn panel(svg: &mut String, left: f64, title: &str, lines: &[Line]) {
    let most = |of: fn(&(f64, f64)) -> f64| {
        let all = lines.iter().flat_map(|(_, points)| points);
        all.map(of).fold(1.0, f64::max)
    };
    let (most_x, most_y) = (most(|point| point.0), most(|point| point.1) * 1.1);
    let x = |n: f64| left + EDGE + n / most_x * WIDTH;
    let y = |value: f64| EDGE + HEIGHT - value / most_y * HEIGHT;
    let mut add = |text: String| svg.write_str(&text).expect("a String takes all");
    add(format!(
        "<text x=\"{}\" y=\"{}\">{title}</text>\n",
        x(0.0),
        EDGE - 24.0
    ));
    for part in 0..=4 {
        let (at_x, at_y) = (
            most_x * f64::from(part) / 4.0,
            most_y * f64::from(part) / 4.0,
        );
        add(format!(
            "<path d=\"M{} {:.1}H{}\" stroke=\"#ddd\"/>\n<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{at_y:.1}</text>\n<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{at_x:.0}</text>\n",
            x(0.0),
            y(at_y),
            x(most_x),
            x(0.0) - 6.0,
            y(at_y) + 4.0,
            x(at_x),
            y(0.0) + 18.0
        ));
    }
    for (place, ((name, colour), points)) in lines.iter().enumerate() {
        let path: Vec<_> = points
            .iter()
            .map(|(n, value)| format!("{:.1} {:.1}", x(*n), y(*value)))
            .collect();
        let legend = f64::from(u32::try_from(place).expect("few")) * 90.0;
        add(format!(
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>\n",
            path.join("L"),
            x(0.0) + legend,
            EDGE - 8.0
        ));
        for (n, value) in points {
            add(format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>\n",
                x(*n),
                y(*value)
            ));
        }
    }
}
