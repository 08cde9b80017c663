"use strict";
// The page of `lea serve`: one photo, questions about it, the answers as they grow, the visual cue over the photo.

const $ = (id) => document.getElementById(id);
const INFERNO = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
const LARGEST = 14e6; // bytes of a photo: a third more as base64, and the server takes 20 MB
const state = { models: [], photo: null, bitmap: null, heat: null, running: null, photoNumber: 0 };

function headers() {
  const key = $("key").value.trim();
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function send(path, body, signal) {
  let answer;
  try {
    const sent = body === undefined ? { headers: headers() } : { method: "POST", headers: headers(), body: JSON.stringify(body) };
    answer = await fetch(path, { ...sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is lea serve running?");
  }
  if (answer.status === 401) $("locked").hidden = false;
  if (!answer.ok) {
    const failure = await answer.json().catch(() => null);
    throw new Error(failure?.error?.message ?? `The server answered ${answer.status}.`);
  }
  return answer;
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

// ---- which model answers

const chosen = () => state.models.find((model) => model.id === $("model").value) ?? state.models[0];

async function look() {
  try {
    state.models = (await (await send("v1/models")).json()).data;
  } catch (error) {
    $("who").textContent = error.message;
    return;
  }
  $("locked").hidden = $("locked").hidden || !$("key").value;
  const before = $("model").value;
  $("model").replaceChildren(...state.models.map((model) => new Option(model.id, model.id)));
  if (state.models.some((model) => model.id === before)) $("model").value = before;
  $("choose").hidden = state.models.length < 2;
  describe();
}

function describe() {
  const model = chosen();
  if (!model) return;
  const known = model.lea;
  $("who").textContent = `${model.id}: version ${known.version} answers`;
  const facts = { Version: model.root, Adapter: known.adapter, Digest: known.digest.slice(0, 12), Base: known.base.slice(0, 12) };
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  $("metrics").replaceChildren(...Object.entries(known.metrics).map(([name, value]) => {
    const row = element("tr");
    row.append(element("td", name), element("td", Number(value.toPrecision(4)).toString()));
    return row;
  }));
  $("about").hidden = false;
}

function element(tag, text = "", style = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (style) made.className = style;
  return made;
}

// ---- the photo and its cue

async function show(file) {
  trouble("");
  if (file.size > LARGEST) return trouble(`The photo has ${(file.size / 1e6).toFixed(0)} MB; at most ${LARGEST / 1e6} MB can be sent.`);
  const number = ++state.photoNumber;
  const url = await new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(file);
  });
  const bitmap = await createImageBitmap(file).catch(() => null); // a browser reads fewer kinds than the server
  if (number !== state.photoNumber) return;
  Object.assign(state, { photo: url, bitmap, heat: null });
  $("hint").textContent = bitmap ? "" : `${file.name} (no preview in this browser)`;
  $("view").hidden = !bitmap;
  $("view").setAttribute("aria-label", `Photo ${file.name}`);
  $("forget").hidden = false;
  draw();
  await readCue(number);
}

async function readCue(number) {
  $("cue").hidden = $("nocue").hidden = true;
  try {
    const heat = await (await send("v1/heat-map", { model: chosen().id, image_url: { url: state.photo } })).json();
    if (number !== state.photoNumber) return;
    state.heat = heat;
    $("cue").hidden = !heat.strength;
    $("nocue").hidden = !!heat.strength;
    $("view").setAttribute("aria-label", `${$("view").getAttribute("aria-label")}${heat.strength ? ", under the heat map of the visual cue" : ""}`);
    draw();
  } catch (error) {
    trouble(error.message);
  }
}

function draw() {
  if (!state.bitmap) return;
  const { width, height } = state.bitmap;
  const view = $("view");
  const side = view.width;
  const context = view.getContext("2d");
  const crop = state.heat?.image === "crop";
  const scale = side / (crop ? Math.min(width, height) : Math.max(width, height)); // the square that the model sees
  context.globalAlpha = 1;
  context.fillStyle = "rgb(122 116 104)";
  context.fillRect(0, 0, side, side);
  context.drawImage(state.bitmap, (side - width * scale) / 2, (side - height * scale) / 2, width * scale, height * scale);
  const strength = state.heat?.strength;
  if (!strength) return;
  context.globalAlpha = $("opacity").value / 100;
  const patch = side / strength.length;
  strength.forEach((row, y) => row.forEach((value, x) => {
    context.fillStyle = colour(value);
    context.fillRect(Math.floor(x * patch), Math.floor(y * patch), Math.ceil(patch), Math.ceil(patch));
  }));
}

function colour(value) {
  const place = value * (INFERNO.length - 1);
  const low = Math.min(Math.floor(place), INFERNO.length - 2);
  const mixed = INFERNO[low].map((channel, n) => Math.round(channel + (place - low) * (INFERNO[low + 1][n] - channel)));
  return `rgb(${mixed.join(" ")})`;
}

function forget() {
  state.photoNumber++;
  Object.assign(state, { photo: null, bitmap: null, heat: null });
  $("file").value = "";
  for (const id of ["view", "cue", "nocue", "forget"]) $(id).hidden = true;
  $("hint").textContent = "Drop a photo here, choose one, or paste it";
  $("file").focus();
}

// ---- question and answer

async function ask() {
  const question = $("question").value.trim();
  if (!question || state.running) return;
  if (!chosen()) {
    await look();
    if (!chosen()) return;
  }
  trouble("");
  const content = [{ type: "text", text: question }];
  if (state.photo) content.unshift({ type: "image_url", image_url: { url: state.photo } });
  const item = element("li");
  const text = element("p", "", "growing");
  const foot = element("small");
  item.append(element("q", question), text, foot);
  $("log").prepend(item);
  busy(new AbortController());
  const began = performance.now();
  try {
    const body = { model: chosen().id, stream: true, stream_options: { include_usage: true }, messages: [{ role: "user", content }] };
    const answer = await send("v1/chat/completions", body, state.running.signal);
    foot.textContent = answer.headers.get("x-lea-version");
    let tokens = 0;
    for await (const event of events(answer.body)) {
      if (event.error) throw new Error(event.error.message);
      text.textContent += event.choices[0]?.delta.content ?? "";
      tokens = event.usage?.completion_tokens ?? tokens;
    }
    foot.textContent += ` · ${tokens} tokens in ${((performance.now() - began) / 1000).toFixed(2)} s${state.photo ? "" : " · without a photo"}`;
    if (foot.textContent.split(" ")[0] !== chosen().root) look();
    if (document.activeElement === $("question")) $("question").select();
  } catch (error) {
    if (error.name === "AbortError") foot.textContent += " · stopped";
    else {
      trouble(error.message);
      if (!text.textContent) item.remove();
    }
  } finally {
    text.classList.remove("growing");
    busy(null);
  }
}

function busy(controller) {
  state.running = controller;
  $("ask").disabled = !!controller;
  $("stop").hidden = !controller;
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

// ---- what a person does

$("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask(); }
});
$("stop").addEventListener("click", () => state.running?.abort());
$("file").addEventListener("change", () => $("file").files[0] && show($("file").files[0]));
$("forget").addEventListener("click", forget);
$("opacity").addEventListener("input", draw);
$("model").addEventListener("change", () => { describe(); if (state.photo) readCue(state.photoNumber); });
$("key").addEventListener("change", look);
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) show(file);
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
  });
}
look();
setInterval(() => document.hidden || state.running || look(), 10000);
