// The table library lies in the page: nothing is fetched.
const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
const library = URL.createObjectURL(new Blob([parsed("datatables")], { type: "text/javascript" }));
const { default: DataTable, set_or_remove_dark_class: followColourScheme } = await import(library);
URL.revokeObjectURL(library);
followColourScheme();
// The data of a figure, compressed in the page, as a file.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.csv");
  if (!button) return;
  const bytes = Uint8Array.from(atob(button.dataset.gzip), (letter) => letter.charCodeAt(0));
  const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).blob();
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(text), download: button.textContent });
  link.click();
  URL.revokeObjectURL(link.href);
});
// What scrolls sideways says so, and at which edge there is more.
const showMore = (scrolled) => {
  const look = () => {
    const left = scrolled.scrollLeft, right = scrolled.scrollWidth - scrolled.clientWidth - left;
    scrolled.dataset.more = `${left > 1 ? "left" : ""} ${right > 1 ? "right" : ""}`.trim();
  };
  scrolled.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(scrolled);
  look();
};
// Rows of [shown, sorted by] cells, and the thumbnails of each row, drawn as they are looked at.
const thumbnail = (source, title) => (source ? `<img src="${source}" alt="${title}">` : "");
const shownCells = ({ columns, rows, thumbnails }) => ({
  data: rows,
  columns: columns.map((column, i) => ({
    data: i,
    type: column.kind === "number" ? "num" : "string",
    className: `${column.kind} ${column.edge ? "edge" : ""} ${column.beside ? "beside" : ""}`,
    orderable: column.kind !== "image",
    searchable: column.kind !== "image",
    render: column.kind === "image"
      ? (cell, use, row, { row: at }) => (use === "display" ? thumbnail(thumbnails[at][i], column.title) : "")
      : (cell, use) => (use === "display" ? cell[0] : cell[1]),
  })),
  deferRender: true,
  order: [],
  pageLength: 25,
  lengthMenu: [10, 25, 100, 500],
  scrollX: true,
  autoWidth: false,
  language: { search: "Search", lengthMenu: "_MENU_ a page", info: "_START_ to _END_ of _TOTAL_ images",
              infoFiltered: "(of _MAX_)", infoEmpty: "no images", zeroRecords: "No image fits these filters." },
});
