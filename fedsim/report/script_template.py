"""The script of a run's page: values under the pointer, and where in the page one is.

Plain JavaScript that asks for nothing and without which the page says the same. A curve that can
be read has `data-hover` (see `fedsim.report.svg.Curves`): JSON with the upper and lower
end of its axes and, for each place along them, where it is, its name, and [curve, value] there.
"""

SCRIPT = """
"use strict";
for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const { top, bottom, at } = JSON.parse(svg.dataset.hover);
  const make = (tag, parent) =>
    parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", tag));
  const line = make("line", svg), box = document.createElement("output");
  line.setAttribute("class", "cross");
  line.setAttribute("y1", top);
  line.setAttribute("y2", bottom);
  box.className = "values";
  box.hidden = true;
  svg.after(box);
  const show = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY);
    const x = point.matrixTransform(svg.getScreenCTM().inverse()).x;
    const near = at.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
    const place = near[0] / svg.viewBox.baseVal.width;
    box.style.left = place < 0.5 ? `calc(${100 * place}% + .6rem)` : "auto";
    box.style.right = place < 0.5 ? "auto" : `calc(${100 - 100 * place}% + .6rem)`;
    line.setAttribute("x1", near[0]);
    line.setAttribute("x2", near[0]);
    line.style.visibility = "visible";
    box.replaceChildren(...[near[1], ...near[2].map((v) => `${v[0]}: ${v[1]}`)].map((text) => {
      const row = document.createElement("span");
      row.textContent = text;
      return row;
    }));
    box.hidden = false;
  };
  const hide = () => { line.style.visibility = "hidden"; box.hidden = true; };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
}
const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
const parts = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
const mark = () => {
  const here = parts.filter((part) => part.getBoundingClientRect().top < 120).pop() || parts[0];
  for (const [id, link] of links)
    if (here && id === here.id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
};
addEventListener("scroll", mark, { passive: true });
mark();
"""
