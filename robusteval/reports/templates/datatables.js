// The table library lies in the page: nothing is fetched.
const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
const library = URL.createObjectURL(new Blob([parsed("datatables")], { type: "text/javascript" }));
const { default: DataTable, set_or_remove_dark_class: followColourScheme } = await import(library);
URL.revokeObjectURL(library);
followColourScheme();
// Rows of [shown, sorted by] cells, drawn as they are looked at.
const shownCells = ({ columns, rows }) => ({
  data: rows,
  columns: columns.map((column, i) => ({
    data: i,
    type: column.kind === "number" ? "num" : "string",
    className: `${column.kind} ${column.edge ? "edge" : ""}`,
    orderable: column.kind !== "picture",
    searchable: column.kind !== "picture",
    render: (cell, use) => (use === "display" ? cell[0] : cell[1]),
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
