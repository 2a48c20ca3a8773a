// The per-image table: some at a time on the screen, all of them on paper.
const table = new DataTable("#images", shownCells(parsed("image-data")));
const whole = () => { table.search("").page.len(-1).draw(); };
let shown = table.page.len();
addEventListener("beforeprint", () => { shown = table.page.len(); whole(); });
addEventListener("afterprint", () => { table.page.len(shown).draw(); });
document.querySelector("button.print").addEventListener("click", () => print());
// What scrolls sideways can be reached with the keyboard, and says what it is.
const scrolled = document.querySelector(".dt-scroll-body");
scrolled.tabIndex = 0;
scrolled.setAttribute("role", "region");
scrolled.setAttribute("aria-label", "Images; scrolls sideways");
showMore(scrolled);
document.documentElement.dataset.ready = "yes";
