// The ranking, sortable; what searches it stays outside of what scrolls.
const board = document.getElementById("board");
const region = board.parentElement;
new DataTable(board, {
  order: [],
  paging: false,
  info: false,
  searching: board.tBodies[0].rows.length > 10,
  autoWidth: false,
  columnDefs: [{ targets: ".text", type: "string" }, { targets: "_all", type: "num" }],
});
region.before(region.firstElementChild);
board.before(region);
region.append(board);
document.querySelectorAll(".sideways").forEach(showMore);
document.documentElement.dataset.ready = "yes";
