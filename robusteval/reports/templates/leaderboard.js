// Makes the ranking sortable: the library lies in the page, nothing is fetched.
const text = JSON.parse(document.getElementById("datatables").textContent);
const library = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
const { default: DataTable, set_or_remove_dark_class: followColourScheme } = await import(library);
URL.revokeObjectURL(library);
followColourScheme();
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
