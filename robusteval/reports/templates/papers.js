// Tables as they stand in the paper: nothing to do but to say that the page is there.
document.documentElement.dataset.ready = "yes";
