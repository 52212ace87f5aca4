/* Boxes over a video in step with its picture, and the timeline below it.
   Boxes are in pixels of the upright first frame. Between two faces of an appearance they are interpolated; an appearance
   ends with its last face, as `facet annotate` draws it. Where the browser cannot play the video, single frames are shown. */
"use strict";

const WINDOW_SECONDS = 60; /* boxes are fetched for a minute at a time */
const SAME_MOMENT_SECONDS = 0.001; /* database and player may round a time stamp differently */
const TONES = 10;
const LABEL_PIXELS = 15; /* height of the letters of a label */
const SVG = "http://www.w3.org/2000/svg";

const player = document.querySelector("[data-player]");
const clock = (seconds) => {
  const whole = Math.floor(seconds), rest = String(whole % 60).padStart(2, "0"), minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
};

/* The box of a track at a time; null while it is not in view. */
function boxAt(track, seconds) {
  const { at, boxes } = track, last = at.length - 1;
  if (seconds < at[0] - SAME_MOMENT_SECONDS || seconds > at[last] + SAME_MOMENT_SECONDS) return null;
  let low = 0, high = last + 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at[middle] <= seconds) low = middle + 1;
    else high = middle;
  }
  if (low === 0) return boxes[0];
  if (low > last) return boxes[last];
  const share = (seconds - at[low - 1]) / (at[low] - at[low - 1]);
  return boxes[low - 1].map((edge, n) => edge + (boxes[low][n] - edge) * share);
}

class Overlay {
  constructor(root) {
    this.root = root;
    this.svg = root.querySelector("[data-boxes]");
    this.windows = new Map();
    this.shown = new Map();
    this.seconds = Number(root.dataset.start) || 0;
    this.hasDropped = new URLSearchParams(location.search).get("dropped") === "1";
  }

  window(number) {
    if (number < 0) return Promise.resolve(null);
    if (!this.windows.has(number)) {
      const address = `${this.root.dataset.boxesAt}?from=${number * WINDOW_SECONDS}&to=${(number + 1) * WINDOW_SECONDS}`;
      const waiting = { tracks: [], dropped: [], ready: false };
      this.windows.set(number, waiting);
      waiting.promise = fetch(address, { credentials: "same-origin" })
        .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(String(answer.status)))))
        .then((found) => Object.assign(waiting, found, { ready: true }))
        .catch(() => this.windows.delete(number))
        .then(() => this.draw(this.seconds));
    }
    return this.windows.get(number).promise;
  }

  draw(seconds) {
    this.seconds = seconds;
    const number = Math.floor(seconds / WINDOW_SECONDS);
    this.window(number);
    if (seconds - number * WINDOW_SECONDS > WINDOW_SECONDS / 2) this.window(number + 1);
    const found = this.windows.get(number) || { tracks: [], dropped: [] };
    const seen = new Set();
    for (const track of found.tracks) {
      const box = boxAt(track, seconds);
      if (box) this.place(`seen ${track.appearance}`, box, track, seen);
    }
    if (this.hasDropped)
      found.dropped.forEach((face, n) => {
        const isHere = face.at - SAME_MOMENT_SECONDS <= seconds && (seconds < face.until || seconds <= face.at);
        if (isHere) this.place(`dropped ${number} ${n}`, face.box, { reason: face.reason }, seen);
      });
    for (const [key, group] of this.shown)
      if (!seen.has(key)) {
        group.remove();
        this.shown.delete(key);
      }
  }

  place(key, box, what, seen) {
    seen.add(key);
    let group = this.shown.get(key);
    if (!group) {
      group = document.createElementNS(SVG, "g");
      group.append(document.createElementNS(SVG, "rect"), document.createElementNS(SVG, "text"));
      const number = what.person === null ? what.appearance : what.person;
      group.setAttribute("class", what.reason ? "dropped" : `tone-${number % TONES}`);
      if (what.appearance) group.dataset.appearance = what.appearance;
      group.lastChild.textContent = what.reason || what.label;
      group.lastChild.setAttribute("dy", what.reason ? "1em" : "-.3em");
      this.svg.append(group);
      this.shown.set(key, group);
    }
    const [x1, y1, x2, y2] = box;
    const values = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    for (const name in values) group.firstChild.setAttribute(name, values[name].toFixed(1));
    group.lastChild.setAttribute("x", x1.toFixed(1));
    group.lastChild.setAttribute("y", (what.reason ? y2 : y1).toFixed(1));
  }

  clear() {
    this.svg.replaceChildren();
    this.shown.clear();
  }
}

/* Keeps the letters of the labels at one size on the screen, however large the picture is shown. */
function fitLabels(root) {
  const svg = root.querySelector("[data-boxes]"), box = svg.viewBox.baseVal, shown = svg.getBoundingClientRect();
  const scale = Math.min(shown.width / box.width, shown.height / box.height);
  if (scale > 0) svg.setAttribute("font-size", (LABEL_PIXELS / scale).toFixed(2));
}

/* Moves the line over the lanes. */
function playhead(seconds, whole) {
  const line = document.querySelector("[data-playhead]");
  const track = document.querySelector("[data-timeline] .track");
  if (!line || !track) return;
  const lanes = line.parentElement.getBoundingClientRect(), place = track.getBoundingClientRect();
  line.hidden = false;
  line.style.left = `${place.left - lanes.left + place.width * Math.min(seconds / whole, 1)}px`;
}

function start(root) {
  const overlay = new Overlay(root);
  const whole = Number(root.dataset.seconds) || 1;
  const video = root.querySelector("video");
  let goTo = null;

  const show = (seconds) => {
    overlay.draw(seconds);
    playhead(seconds, whole);
  };
  const remember = (seconds) => {
    const address = new URL(location.href);
    address.searchParams.set("at", seconds.toFixed(3));
    history.replaceState(null, "", address);
  };

  function showFrames() {
    const still = document.createElement("img");
    still.className = "picture";
    still.width = video ? video.width : 640;
    still.height = video ? video.height : 360;
    const tools = document.createElement("label");
    tools.className = "line seek";
    tools.textContent = "Time ";
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0, max: whole, step: "any" });
    const said = document.createElement("output");
    tools.append(slider, said);
    let wanted = -1;
    goTo = (seconds) => {
      slider.value = seconds;
      said.textContent = clock(seconds);
      if (wanted === seconds) return;
      wanted = seconds;
      still.src = `${root.dataset.frameAt}?at=${seconds.toFixed(3)}&side=960`;
      still.alt = `frame at ${clock(seconds)}`;
      show(seconds);
    };
    slider.addEventListener("change", () => goTo(Number(slider.value)));
    slider.addEventListener("input", () => (said.textContent = clock(Number(slider.value))));
    video.replaceWith(still);
    root.querySelector(".player-tools").prepend(tools);
    root.querySelector("[data-unplayable]").hidden = false;
    goTo(Number(root.dataset.start));
  }

  if (video) {
    goTo = (seconds) => {
      video.currentTime = seconds + SAME_MOMENT_SECONDS / 2; /* on the frame, not before it */
      show(seconds);
    };
    const step = (_now, frame) => {
      show(frame ? frame.mediaTime : video.currentTime);
      follow();
    };
    const follow = () =>
      video.requestVideoFrameCallback ? video.requestVideoFrameCallback(step) : requestAnimationFrame(step);
    follow();
    video.addEventListener("seeked", () => !video.requestVideoFrameCallback && show(video.currentTime));
    video.addEventListener("pause", () => remember(video.currentTime));
    const hasNoPicture = () => video.readyState >= 1 && video.videoWidth === 0; /* its sound alone can be played */
    video.addEventListener("loadedmetadata", () => hasNoPicture() && showFrames());
    video.addEventListener("error", showFrames);
    if (video.error || hasNoPicture()) showFrames();
  } else if (root.dataset.kind === "video") {
    playhead(Number(root.dataset.start), whole);
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-at]");
    if (!link || !video || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    goTo(Number(link.dataset.at));
    remember(Number(link.dataset.at));
    if (!link.closest(".track")) root.scrollIntoView({ block: "nearest" });
  });

  /* A click anywhere on a lane or strip jumps there, also between two bars. */
  document.querySelector("[data-timeline]")?.addEventListener("click", (event) => {
    const track = event.target.closest(".track");
    if (!track || !video || event.target.closest("[data-at]")) return;
    const place = track.getBoundingClientRect();
    const seconds = (whole * (event.clientX - place.left)) / place.width;
    goTo(seconds);
    remember(seconds);
  });

  const still = root.querySelector("[data-still]");
  still?.addEventListener("click", () => {
    const address = new URL(still.href);
    address.searchParams.set("at", overlay.seconds.toFixed(3));
    still.href = address;
  });

  const dropped = root.querySelector("[data-dropped]");
  dropped?.addEventListener("click", (event) => {
    if (!video) return;
    event.preventDefault();
    overlay.hasDropped = !overlay.hasDropped;
    dropped.setAttribute("aria-checked", String(overlay.hasDropped));
    show(overlay.seconds);
  });
  dropped?.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    dropped.click();
  });
  window.addEventListener("resize", () => playhead(overlay.seconds, whole));
}

if (player) {
  fitLabels(player);
  window.addEventListener("resize", () => fitLabels(player));
  if (player.dataset.kind === "video") start(player);
}
