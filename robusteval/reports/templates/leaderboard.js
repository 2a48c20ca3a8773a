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
// What scrolls sideways says so, and at which edge there is more.
const watch = (scrolled) => {
  const look = () => {
    const left = scrolled.scrollLeft, right = scrolled.scrollWidth - scrolled.clientWidth - left;
    scrolled.dataset.more = `${left > 1 ? "left" : ""} ${right > 1 ? "right" : ""}`.trim();
  };
  scrolled.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(scrolled);
  look();
};
document.querySelectorAll(".sideways").forEach(watch);
document.documentElement.dataset.ready = "yes";
