"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (data === null) return;
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  const videos = all("video");
  const byName = new Map(videos.map((video) => [video.dataset.name, video]));
  const play = one("#play"), scrubber = one("#scrubber"), row = one("#row");
  const last = data.frames - 1;
  let frame = 0, playing = false;

  // --- one clock for all videos: the first one leads -------------------------------------------------------

  function show(next) {
    frame = clamp(next, 0, last);
    scrubber.value = frame;
    const id = data.frameIds[frame];
    const text = `frame ${frame} / ${last}`;
    one("#position").textContent = text;
    scrubber.setAttribute("aria-valuetext", id === undefined ? text : `${text}, frame ${id} of the source`);
    all(".now").forEach((mark) => { mark.style.top = `${(100 * (frame + 0.5)) / data.slices.frames}%`; });
    all(".now").forEach((mark) => { mark.hidden = frame >= data.slices.frames; });
    all(".cursor").forEach((line) => ["x1", "x2"].forEach((end) => line.setAttribute(end, frame)));
    readValues();
    drawWipe();
  }

  // The middle of a frame's time, so that rounding can't land on its neighbour.
  const timeOf = (number) => (number + 0.5) / data.fps;
  const frameAt = (time) => clamp(Math.floor(time * data.fps + 1e-3), 0, last);

  // One seek at a time for each video: Chromium can stop decoding for good when seeks overtake each other.
  const overdue = new Set();

  function seek(next) {
    show(next);
    for (const video of videos) {
      if (video.seeking) overdue.add(video);
      else video.currentTime = timeOf(frame);
    }
  }

  function arrived(video) {
    if (overdue.delete(video)) video.currentTime = timeOf(frame);
    drawWipe();
  }

  function start() {
    playing = true;
    if (frame >= last) seek(0);
    const rate = Number(one("#speed").value);
    videos.forEach((video) => {
      video.playbackRate = rate;
      video.play().catch((error) => { if (error.name !== "AbortError") fail(error.message); });
    });
    label();
    requestAnimationFrame(follow);
  }

  function stop() {
    playing = false;
    videos.forEach((video) => video.pause());
    seek(frame);
    label();
  }

  function label() {
    play.textContent = playing ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(playing));
  }

  function follow() {
    if (!playing) return;
    const leader = videos[0];
    if (leader.ended) {
      show(last);
      return start();
    }
    const apart = 1.5 / data.fps;
    for (const video of videos) {
      if (!video.seeking && Math.abs(video.currentTime - leader.currentTime) > apart) video.currentTime = leader.currentTime;
    }
    show(frameAt(leader.currentTime));
    requestAnimationFrame(follow);
  }

  function fail(reason) {
    playing = false;
    label();
    one("#problem").textContent = `This browser can't play the videos (${reason}). Slices and figures still work.`;
    one("#problem").hidden = false;
  }

  // --- x-t slices: one picture per variant holds the slice of every row ------------------------------------

  function drawSlices() {
    const { frames, columns, width, rowStep } = data.slices;
    const block = Math.floor(Number(row.value) / rowStep);
    const left = (block % columns) * width, top = Math.floor(block / columns) * frames;
    for (const canvas of all(".slice canvas")) {
      const sheet = one(`#${canvas.dataset.sheet}`);
      if (sheet.complete && sheet.naturalWidth) {
        canvas.getContext("2d").drawImage(sheet, left, top, width, frames, 0, 0, width, frames);
      }
    }
    one("#row-value").textContent = `${row.value} / ${data.height - 1}`;
    all(".row-line").forEach((line) => { line.style.top = `${(100 * (Number(row.value) + 0.5)) / data.height}%`; });
  }

  function dragRow(line) {
    const move = (event) => {
      const box = line.parentElement.getBoundingClientRect();
      row.value = ((event.clientY - box.top) / box.height) * data.height;
      drawSlices();
    };
    onDrag(line, move);
  }

  function onDrag(element, move) {
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      event.preventDefault();
      move(event);
    });
    element.addEventListener("pointermove", (event) => {
      if (element.hasPointerCapture(event.pointerId)) move(event);
    });
  }

  // --- wipe: drawn from the videos above, so it is always at their frame -----------------------------------

  function drawWipe() {
    const canvas = one("#wipe-canvas"), pen = canvas.getContext("2d");
    const left = byName.get(one("#wipe-left").value), right = byName.get(one("#wipe-right").value);
    const { width, height } = canvas, share = Number(one("#wipe").value) / 100;
    if (right.readyState >= 2) pen.drawImage(right, 0, 0, width, height);
    if (left.readyState >= 2) {
      pen.save();
      pen.beginPath();
      pen.rect(0, 0, width * share, height);
      pen.clip();
      pen.drawImage(left, 0, 0, width, height);
      pen.restore();
    }
    one("#wipe-divider").style.left = `${100 * share}%`;
  }

  function dragWipe(event) {
    const box = one("#wipe-stage").getBoundingClientRect();
    one("#wipe").value = (100 * (event.clientX - box.left)) / box.width;
    drawWipe();
  }

  // --- curves ----------------------------------------------------------------------------------------------

  function readValues() {
    for (const cell of all("[data-value]")) {
      const value = data.curves[cell.dataset.value][cell.dataset.variant][frame];
      cell.textContent = value === null || value === undefined ? "–" : value.toPrecision(3);
    }
  }

  function toggle(box) {
    all(`path[data-variant="${CSS.escape(box.dataset.variant)}"]`).forEach((path) => {
      path.style.display = box.checked ? "" : "none";
    });
  }

  function seekInPlot(event) {
    const box = event.currentTarget.getBoundingClientRect();
    seek(Math.round(((event.clientX - box.left) / box.width) * Math.max(1, last)));
  }

  // --- wiring ----------------------------------------------------------------------------------------------

  function onKey(event) {
    if (event.target.closest("input, select, button, summary, a") || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key === " ") playing ? stop() : start();
    else if (event.key in steps) { if (playing) stop(); seek(frame + steps[event.key]); }
    else return;
    event.preventDefault();
  }

  for (const video of videos) {
    video.controls = false;
    video.addEventListener("loadeddata", drawWipe);
    video.addEventListener("seeked", () => arrived(video));
    video.addEventListener("error", () => fail(video.error.message || "unknown error"));
    if (video.error) fail(video.error.message || "unknown error");
  }
  play.addEventListener("click", () => (playing ? stop() : start()));
  scrubber.addEventListener("input", () => { const to = Number(scrubber.value); if (playing) stop(); seek(to); });
  one("#speed").addEventListener("change", (event) => {
    videos.forEach((video) => { video.playbackRate = Number(event.target.value); });
  });
  row.addEventListener("input", drawSlices);
  all(".row-line").forEach(dragRow);
  all(".sheet").forEach((sheet) => sheet.addEventListener("load", drawSlices));
  all(".slice").forEach((slice) => slice.addEventListener("click", (event) => {
    const box = slice.getBoundingClientRect();
    if (playing) stop();
    seek(Math.min(Math.floor(((event.clientY - box.top) / box.height) * data.slices.frames), last));
  }));
  ["#wipe", "#wipe-left", "#wipe-right"].forEach((id) => one(id).addEventListener("input", drawWipe));
  onDrag(one("#wipe-stage"), dragWipe);
  all(".plot svg").forEach((plot) => plot.addEventListener("click", seekInPlot));
  all(".legend input").forEach((box) => box.addEventListener("change", () => toggle(box)));
  all("[data-seek]").forEach((button) => button.addEventListener("click", () => {
    if (playing) stop();
    seek(Number(button.dataset.seek));
  }));
  document.addEventListener("keydown", onKey);
  seek(0);
  drawSlices();
})();
