import { WORDS } from "/words.js";

const at = (id) => document.getElementById(id);
const MOST_KEPT = 20;
const MOST_BARS = 5;
const CLOSE = 0.15;

let language = stored("language") || (navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en");
let theme = stored("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
let model = null;
let camera = null;

// A browser may forbid storage; the page then forgets, and that is all.
function stored(name) {
  try { return localStorage.getItem("tapetum-" + name); } catch { return null; }
}

function store(name, value) {
  try { localStorage.setItem("tapetum-" + name, value); } catch { /* forgotten */ }
}

function say(word, ...values) {
  return WORDS[language][word].replace(/\{(\d)\}/g, (_, i) => values[i]);
}

function percent(share) {
  return new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(share);
}

// What is said again when the language changes: an element's words are a function.
const spoken = new Map();

function speak(element, words) {
  spoken.set(element, words);
  element.textContent = words();
}

function show() {
  document.documentElement.lang = language;
  document.documentElement.dataset.theme = theme;
  document.title = say("title") + " · tapetum";
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
  at("language").textContent = say("other");
  at("language").lang = language === "ko" ? "en" : "ko";
  at("theme").textContent = say(theme === "dark" ? "light" : "dark");
  if (model) showModel();
  for (const [element, words] of spoken) {
    if (element.isConnected) element.textContent = words();
    else spoken.delete(element);
  }
  for (const answer of document.querySelectorAll(".answer")) answer.speak?.();
}

function showModel() {
  const classes = model.classes.length <= 8 ? model.classes.join(", ") : say("many", model.classes.length);
  at("model").textContent = say("tells", model.network, classes);
  const part = ["test", "folds", "val"].find((each) => model.metrics[each]);
  const worth = model.metrics[part];
  const count = (number) => number.toLocaleString("en");
  const round = (share) => Math.round(share * 100);
  const told = () => [count(Math.round(worth.value * worth.n)), count(worth.n), ...[worth.value, worth.low, worth.high].map(round)];
  at("worth").textContent = worth ? say("worth_" + part, ...told()) : "";
}

function note(words) {
  speak(at("note"), words);
}

const QUIET = () => "";

async function answer(file, name) {
  note(QUIET);
  const card = at("answer").content.firstElementChild.cloneNode(true);
  const part = (kind) => card.querySelector("." + kind);
  card.classList.add("waiting");
  speak(part("file"), name);
  speak(part("label"), () => say("looking"));
  const url = URL.createObjectURL(file);
  part("picture").src = url;
  card.forget = () => URL.revokeObjectURL(url);
  at("answers").prepend(card);
  kept();
  const found = await asked(file, (words) => speak(part("label"), words));
  card.classList.remove("waiting");
  if (found.words) {
    card.classList.add("refused");
    speak(part("label"), found.words);
    return;
  }
  showAnswer(card, part, file, name, found.answer);
}

function showAnswer(card, part, file, name, found) {
  const ranked = Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]);
  const neither = "familiarity" in found && found.label !== ranked[0][0];
  const label = () => (neither ? say("neither") : found.label);
  card.classList.toggle("neither", neither);
  speak(part("label"), label);
  card.speak = () => { part("picture").alt = say("picture", name(), label()); };
  card.speak();
  for (const [kind, share] of ranked.slice(0, MOST_BARS)) part("bars").append(bar(kind, share));
  if (neither) speak(part("aside"), () => say("strange", ranked[0][0]));
  else if (ranked[0][1] - ranked[1][1] < CLOSE) speak(part("aside"), () => say("unsure"));
  else if (ranked.length > MOST_BARS) speak(part("aside"), () => say("more", ranked.length - MOST_BARS));
  if (model?.explains) warm(part, file, ranked[0][0]);
}

function bar(kind, share) {
  const [line, words, number, track, filled] = ["li", "span", "span", "div", "i"].map((tag) => document.createElement(tag));
  words.textContent = kind;
  number.className = "percent";
  speak(number, () => percent(share));
  filled.style.width = share * 100 + "%";
  track.append(filled);
  line.append(words, number, track);
  return line;
}

// The heat map is fetched when it is first asked for, then shown and hidden in turns.
function warm(part, file, label) {
  const [button, heat, picture] = [part("warm"), part("heat"), part("picture")];
  let on = false;
  button.hidden = false;
  speak(button, () => say(on ? "unheat" : "heat"));
  button.onclick = async () => {
    if (!heat.src) {
      button.disabled = true;
      const reply = await sent("/v1/explain?label=" + encodeURIComponent(label), file);
      button.disabled = false;
      if (!reply?.ok) return note(reply ? () => say("failed", reply.status) : () => say("away"));
      heat.src = URL.createObjectURL(await reply.blob());
    }
    on = !on;
    heat.alt = say("heatof", label);
    heat.hidden = !on;
    picture.hidden = on;
    button.setAttribute("aria-pressed", on);
    speak(button, () => say(on ? "unheat" : "heat"));
  };
}

// The answer to one picture, or words that tell why there is none.
async function asked(file, meanwhile) {
  const megabytes = (model?.limits.bytes ?? 1e7) / 1e6;
  if (file.size > megabytes * 1e6) return { words: () => say("large", megabytes) };
  if (file.size === 0) return { words: () => say("not_a_picture") };
  for (let tries = 0; tries < 5; tries++) {
    const reply = await sent("/v1/predict?each=true", file);
    if (!reply) return { words: () => say("away") };
    if (reply.status === 503) {
      meanwhile(() => say("busy"));
      await new Promise((done) => setTimeout(done, 1000 * (Number(reply.headers.get("Retry-After")) || 1)));
      continue;
    }
    if (reply.ok) {
      const [found] = (await reply.json()).answers;
      return found.error ? { words: refusal(found.error, megabytes) } : { answer: found };
    }
    const { error } = await reply.json().catch(() => ({ error: { code: "", message: String(reply.status) } }));
    return { words: refusal(error, megabytes) };
  }
  return { words: () => say("gave_up") };
}

function refusal(error, megabytes) {
  if (error.code === "too_large") return () => say("large", megabytes);
  if (error.code !== "not_a_picture") return () => say("failed", error.message);
  if (error.message.includes("over the limit")) return () => say("pixels", Math.round(model.limits.pixels / 1e6));
  return error.message.includes("damaged") ? () => say("damaged") : () => say("not_a_picture");
}

async function sent(path, file) {
  try {
    return await fetch(path, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
  } catch {
    return null;
  }
}

function take(files, name) {
  const all = [...files];
  if (all.length === 0) return note(() => say("no_picture"));
  // One after another: a hundred pictures at once would only be told to wait.
  return all.reduce((before, file) => before.then(() => answer(file, name ?? (() => file.name || say("unnamed")))), Promise.resolve());
}

function kept() {
  const cards = [...at("answers").children];
  for (const old of cards.slice(MOST_KEPT)) drop(old);
  at("none").hidden = cards.length > 0;
  at("clear").hidden = cards.length === 0;
}

function drop(card) {
  card.forget?.();
  for (const element of card.querySelectorAll("*")) spoken.delete(element);
  card.remove();
}

async function openCamera() {
  // Browsers give the camera to pages on localhost or https only; elsewhere a phone's own camera answers a file input.
  if (!navigator.mediaDevices?.getUserMedia) {
    at("file").setAttribute("capture", "environment");
    at("file").click();
    at("file").removeAttribute("capture");
    return;
  }
  closeCamera();
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const why = { NotAllowedError: "why_denied", NotFoundError: "why_missing" }[error.name] ?? "why_other";
    return note(() => say("no_camera", say(why)));
  }
  note(QUIET);
  at("video").srcObject = camera;
  at("finder").hidden = false;
  at("shoot").focus();
}

function closeCamera() {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = null;
  at("video").srcObject = null;
  at("finder").hidden = true;
}

function shoot() {
  const video = at("video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((photo) => photo && take([photo], () => say("photo")), "image/jpeg", 0.92);
}

function listen() {
  at("file").onchange = (event) => { take(event.target.files); event.target.value = ""; };
  at("camera").onclick = openCamera;
  at("stop").onclick = closeCamera;
  at("shoot").onclick = shoot;
  at("clear").onclick = () => { [...at("answers").children].forEach(drop); kept(); at("file").focus(); };
  at("language").onclick = () => { language = language === "ko" ? "en" : "ko"; store("language", language); show(); };
  at("theme").onclick = () => { theme = theme === "dark" ? "light" : "dark"; store("theme", theme); show(); };
  // Dropped anywhere: a near miss must not leave the page for the picture.
  document.ondragover = (event) => { event.preventDefault(); at("drop").classList.add("over"); };
  document.ondragleave = (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); };
  document.ondrop = (event) => { event.preventDefault(); at("drop").classList.remove("over"); take(event.dataTransfer.files); };
  document.onpaste = (event) => { if (event.clipboardData.files.length) take(event.clipboardData.files, () => say("pasted")); };
}

async function begin() {
  show();
  listen();
  try {
    model = await (await fetch("/v1/model")).json();
    showModel();
  } catch {
    note(() => say("away"));
  }
}

begin();
