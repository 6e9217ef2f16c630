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

// The icons and their fonts come after the text is shown; see tools/page_notes.py.
const showIcons = () => {
  for (const sheet of document.querySelectorAll("link[data-for-later]")) sheet.media = "all";
};
window.addEventListener("load", () => requestAnimationFrame(() => setTimeout(showIcons)));
