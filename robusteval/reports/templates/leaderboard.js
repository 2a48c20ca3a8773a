// The ranking, sortable.
new DataTable("#board", {
  order: [],
  paging: false,
  info: false,
  searching: document.querySelectorAll("#board tbody tr").length > 10,
  scrollX: true,
  autoWidth: false,
  columnDefs: [{ targets: 0, type: "string" }, { targets: "_all", type: "num" }],
});
document.documentElement.dataset.ready = "yes";
