// What pages do better with a script; all of it can be had without one.
"use strict";

const typing = (target) => target instanceof Element && target.closest("input, select, textarea, button, summary, [contenteditable]");

// A run under way: progress and log as they come.
function follow(box) {
  const lines = document.getElementById("lines");
  const source = new EventSource(`${box.dataset.stream}?after=${box.dataset.after}`);
  document.getElementById("live").textContent = "This page follows the run; it needs no";
  source.addEventListener("progress", (event) => {
    const now = JSON.parse(event.data);
    const bar = document.getElementById("bar");
    bar.value = now.percent;
    bar.textContent = `${now.percent} %`;
    document.getElementById("doing").textContent = now.total ? `${now.percent} %, ${now.doing}, ${now.done} of ${now.total}` : now.doing;
    const state = document.querySelector("#state .badge");
    const said = `${now.mark}\u00a0${now.words}`;
    if (state.textContent !== said) state.textContent = said;
  });
  source.addEventListener("line", (event) => {
    const line = JSON.parse(event.data);
    const item = document.createElement("li");
    const level = document.createElement("span");
    item.className = line.level;
    level.className = "level";
    level.textContent = line.level;
    item.append(`${line.at} `, level, ` ${line.text}`);
    const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
    lines.append(item);
    document.getElementById("nolines")?.remove();
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  });
  source.addEventListener("end", () => {
    source.close();
    location.reload();
  });
}

// One sample: both pictures in one place, toggled or wiped.
function view(viewer) {
  const after = viewer.querySelector("[data-after]");
  const [layer, toggle] = ["[data-layer]", "[data-toggle]"].map((name) => document.querySelector(name));
  const wipe = document.getElementById("wipe");
  const keys = document.querySelector("[data-viewer-keys]");
  keys.hidden = false;
  const show = (layered, before) => {
    viewer.classList.toggle("layered", layered);
    viewer.classList.toggle("before", layered && before);
    layer.setAttribute("aria-pressed", String(layered));
    toggle.disabled = wipe.disabled = !layered;
    toggle.textContent = before ? "Show after" : "Show before";
    after.querySelector("div").style.clipPath = layered ? `inset(0 ${100 - wipe.value}% 0 0)` : "";
  };
  const shown = () => [viewer.classList.contains("layered"), viewer.classList.contains("before")];
  layer.addEventListener("click", () => show(!shown()[0], false));
  toggle.addEventListener("click", () => show(true, !shown()[1]));
  wipe.addEventListener("input", () => show(true, false));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (event.key === " ") {
      event.preventDefault();
      show(true, shown()[0] ? !shown()[1] : true);
    } else if (event.key === "o") {
      show(!shown()[0], false);
    }
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || typing(event.target)) return;
  const way = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = way && document.querySelector(`a[rel="${way}"]`);
  if (link) location.assign(link.href);
});

document.querySelectorAll("[data-stream]").forEach(follow);
document.querySelectorAll("[data-viewer]").forEach(view);
// Told for tests: whether anything is wider than the window.
const root = document.documentElement;
root.dataset.width = root.clientWidth;
root.dataset.overflow = root.scrollWidth > root.clientWidth ? "yes" : "no";
