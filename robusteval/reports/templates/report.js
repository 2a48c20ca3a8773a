// The per-image table and its filters.
const data = parsed("image-data");
const { facts } = data;
const table = new DataTable("#images", shownCells(data));

const chosen = (id) => document.getElementById(id).value;
const shown = { all: () => true, wrong: (f) => f.wrong, standing: (f) => f.standing, contradiction: (f) => f.contradiction };
table.search.fixed("filters", (text, row, i) => {
  const fact = facts[i];
  return shown[chosen("filter-show")](fact)
    && (chosen("filter-class") === "" || fact.label === chosen("filter-class"))
    && (chosen("filter-by") === "" || fact.by === chosen("filter-by"));
});
for (const id of ["filter-show", "filter-class", "filter-by"]) {
  document.getElementById(id).addEventListener("change", () => table.draw());
}
document.documentElement.dataset.ready = "yes";
