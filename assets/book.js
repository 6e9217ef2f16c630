// Wide tables scroll sideways on a phone. A region that scrolls must be reachable by
// the keyboard; the theme sees to code blocks, this to tables.
const updateTabStops = () => {
  for (const table of document.querySelectorAll(".pst-scrollable-table-container")) {
    const scrolls = table.scrollWidth > table.clientWidth;
    table.tabIndex = scrolls ? 0 : -1;
    table.setAttribute("role", "group");
    table.setAttribute("aria-label", "Table");
  }
};
window.addEventListener("load", updateTabStops);
window.addEventListener("resize", updateTabStops);

// What weighs much waits until the text is on the screen.
window.textIsShown = new Promise((resolve) => {
  const name = "first-contentful-paint";
  const look = (list) => list.getEntriesByName(name).length > 0 && resolve();
  const canTell = window.PerformanceObserver?.supportedEntryTypes?.includes("paint");
  if (canTell) new PerformanceObserver(look).observe({ type: "paint", buffered: true });
  else window.addEventListener("load", resolve);
});

// The icons and their fonts; see tools/page_notes.py.
window.textIsShown.then(() => {
  for (const sheet of document.querySelectorAll("link[data-for-later]")) sheet.media = "all";
});

// MathJax weighs more than most pages: it comes when a formula comes near. See
// tools/page_notes.py, which keeps the browser from running its script at once.
const typeset = () => {
  const waiting = document.querySelector('script[type="text/for-later"]');
  if (!waiting) return;
  const script = document.createElement("script");
  script.src = waiting.src;
  waiting.replaceWith(script);
};
window.textIsShown.then(() => {
  const isNear = ({ isIntersecting }) => isIntersecting;
  const look = (seen) => seen.some(isNear) && typeset();
  const watch = new IntersectionObserver(look, { rootMargin: "400px" });
  document.querySelectorAll("span.math, div.math").forEach((formula) => watch.observe(formula));
  setTimeout(typeset, 10000); // in any case after a while: somebody may print the page
});
window.addEventListener("beforeprint", typeset);
