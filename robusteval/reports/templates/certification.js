// The per-image table.
new DataTable("#images", shownCells(parsed("image-data")));
document.documentElement.dataset.ready = "yes";
