// A line over the last minute, drawn as SVG; decoration beside a number that is text.
const NS = "http://www.w3.org/2000/svg";
const WIDTH = 240;
const HEIGHT = 48;

function make(tag, attributes) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export class Sparkline {
  constructor(samples) {
    this.samples = samples;
    this.area = make("path", { class: "area" });
    this.line = make("path", { class: "line" });
    this.svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" });
    this.svg.append(make("path", { class: "base", d: `M0 ${HEIGHT - 1}H${WIDTH}` }), this.area, this.line);
  }

  /** Draw the last values; gaps (null) interrupt the line. */
  draw(values) {
    const most = Math.max(1, ...values.filter((value) => value !== null));
    const step = WIDTH / (this.samples - 1);
    const start = WIDTH - (values.length - 1) * step;
    let line = "";
    let area = "";
    let begun = null;
    values.forEach((value, index) => {
      const x = (start + index * step).toFixed(1);
      if (value === null) {
        if (begun !== null) area += `V${HEIGHT}H${begun}Z`;
        begun = null;
        return;
      }
      const y = (HEIGHT - 2 - (value / most) * (HEIGHT - 6)).toFixed(1);
      line += `${begun === null ? "M" : "L"}${x} ${y}`;
      area += begun === null ? `M${x} ${HEIGHT}V${y}` : `L${x} ${y}`;
      if (begun === null) begun = x;
      if (index === values.length - 1) area += `V${HEIGHT}H${begun}Z`;
    });
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
  }
}
