// The per-image table and its filters.
const data = { ...parsed("image-data"), thumbnails: parsed("thumbnails") };
const { facts } = data;
const table = new DataTable("#images", shownCells(data));

const chosen = (id) => document.getElementById(id).value;
const shown = { all: () => true, wrong: (f) => f.wrong, standing: (f) => f.standing, exact: (f) => f.exact, contradiction: (f) => f.contradiction };
table.search.fixed("filters", (text, row, i) => {
  const fact = facts[i];
  return shown[chosen("filter-show")](fact)
    && (chosen("filter-class") === "" || fact.label === chosen("filter-class"))
    && (chosen("filter-by") === "" || fact.by === chosen("filter-by"));
});
for (const id of ["filter-show", "filter-class", "filter-by"]) {
  document.getElementById(id).addEventListener("change", () => table.draw());
}
// All that is known of one image, with its thumbnails enlarged.
const details = document.getElementById("details");
const open = (row) => {
  const cells = row.data();
  const thumbnails = details.querySelector(".thumbnails");
  const facts = details.querySelector(".facts");
  thumbnails.replaceChildren();
  facts.replaceChildren();
  let list = facts.appendChild(document.createElement("dl"));
  let group = "";
  data.columns.forEach(({ kind, title, group: own }, i) => {
    if (kind === "image") {
      const source = data.thumbnails[row.index()][i];
      if (source) {
        const figure = thumbnails.appendChild(document.createElement("figure"));
        figure.innerHTML = thumbnail(source, title);
        figure.appendChild(document.createElement("figcaption")).textContent = title;
      }
      return;
    }
    if (title === "Name") {
      details.querySelector("h2").textContent = cells[i][1];
      return;
    }
    if (own !== group) {
      if (own) facts.appendChild(document.createElement("h3")).textContent = own;
      list = facts.appendChild(document.createElement("dl"));
    }
    group = own;
    list.appendChild(document.createElement("dt")).textContent = title;
    // Cells are escaped when the page is made.
    list.appendChild(document.createElement("dd")).innerHTML = cells[i][0] || "-";
  });
  details.showModal();
};
document.getElementById("images").addEventListener("click", (event) => {
  if (event.target.closest("button.open")) open(table.row(event.target.closest("tr")));
});
details.addEventListener("click", (event) => {
  if (event.target === details || event.target.closest(".close")) details.close();
});
// A link to a folded chapter opens it.
const unfold = () => document.getElementById(decodeURIComponent(location.hash.slice(1)))?.querySelector("details.chapter")?.setAttribute("open", "");
addEventListener("hashchange", unfold);
unfold();
document.documentElement.dataset.ready = "yes";
