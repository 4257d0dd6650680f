/* All that the page says, in each of its languages. */

const TEXTS = {
  en: {
    summary: (count) => `${count} ${count === 1 ? "class" : "classes"}`,
    intake: "Drop photos here",
    intakeMore: "The model predicts the class of every pixel. You can also paste a photo.",
    choose: "Choose photos",
    camera: "Camera",
    privacy: "Photos are sent to this server only. It stores none of them.",
    add: "Add photos",
    remove: "Remove",
    drop: "Drop to add",
    classes: "Classes",
    class: "Class",
    share: "Share",
    confidence: "Confidence",
    photo: "Whole photo",
    absent: (names) => `Not in this photo: ${names}.`,
    all: "Show all",
    none: "Show none",
    view: "View",
    areas: "Areas",
    outlines: "Outlines",
    doubt: "Uncertainty",
    opacity: "Opacity",
    size: "Predict at",
    sizeOf: (side) => `at most ${side} pixels`,
    sizeWhole: "the photo’s size",
    download: "Download",
    labelMap: "Label map",
    overlay: "Overlay",
    polygons: "Polygons",
    api: "HTTP API",
    license: (license) => `License of the model: ${license}.`,
    source: "Source",
    shoot: "Take photo",
    cancel: "Cancel",
    waiting: "Waiting",
    predicting: "Predicting …",
    busy: (seconds) => `The server is busy; next try in ${seconds} s`,
    done: (name, classes) => `${name}: ${classes}.`,
    failed: (name) => `${name} failed.`,
    readout: (name, confidence) => `${name}, confidence ${confidence}`,
    facts: (size, predicted, seconds) =>
      predicted === size ? `${size}, ${seconds} s` : `${size}, predicted at ${predicted}, ${seconds} s`,
    firstOfSeveral: "First frame only",
    picture: (name) => `${name} with the predicted classes`,
    retry: "Try again",
    retrySmaller: (side) => `Predict at ${side} pixels`,
    error400: "The server did not take this request.",
    error408: "The upload took too long.",
    error413: "This photo is too large.",
    error415: "This is no photo that the server can read.",
    error422: "This file is damaged.",
    error429: "The server is busy.",
    error500: "The server failed.",
    error503: "The prediction took too long.",
    error0: "The server does not answer.",
    cameraRefused: "The camera cannot be used.",
  },
  ko: {
    summary: (count) => `클래스 ${count}개`,
    intake: "사진을 여기에 놓으세요",
    intakeMore: "모델이 모든 픽셀의 클래스를 예측합니다. 사진을 붙여넣어도 됩니다.",
    choose: "사진 고르기",
    camera: "카메라",
    privacy: "사진은 이 서버로만 전송되며 저장되지 않습니다.",
    add: "사진 추가",
    remove: "제거",
    drop: "놓으면 추가됩니다",
    classes: "클래스",
    class: "클래스",
    share: "비율",
    confidence: "신뢰도",
    photo: "사진 전체",
    absent: (names) => `이 사진에 없음: ${names}.`,
    all: "모두 보이기",
    none: "모두 숨기기",
    view: "보기",
    areas: "영역",
    outlines: "윤곽선",
    doubt: "불확실성",
    opacity: "불투명도",
    size: "예측 크기",
    sizeOf: (side) => `최대 ${side}픽셀`,
    sizeWhole: "사진 크기 그대로",
    download: "내려받기",
    labelMap: "레이블 맵",
    overlay: "오버레이",
    polygons: "다각형",
    api: "HTTP API",
    license: (license) => `모델 라이선스: ${license}.`,
    source: "출처",
    shoot: "촬영",
    cancel: "취소",
    waiting: "대기 중",
    predicting: "예측 중 …",
    busy: (seconds) => `서버가 바쁩니다. ${seconds}초 뒤에 다시 시도합니다`,
    done: (name, classes) => `${name}: ${classes}.`,
    failed: (name) => `${name}: 실패했습니다.`,
    readout: (name, confidence) => `${name}, 신뢰도 ${confidence}`,
    facts: (size, predicted, seconds) =>
      predicted === size ? `${size}, ${seconds}초` : `${size}, ${predicted}에서 예측, ${seconds}초`,
    firstOfSeveral: "첫 프레임만 예측",
    picture: (name) => `${name}, 예측한 클래스를 겹친 사진`,
    retry: "다시 시도",
    retrySmaller: (side) => `${side}픽셀로 예측`,
    error400: "서버가 이 요청을 받지 않았습니다.",
    error408: "전송 시간이 초과되었습니다.",
    error413: "사진이 너무 큽니다.",
    error415: "서버가 읽을 수 있는 사진이 아닙니다.",
    error422: "손상된 파일입니다.",
    error429: "서버가 바쁩니다.",
    error500: "서버에 오류가 발생했습니다.",
    error503: "예측 시간이 초과되었습니다.",
    error0: "서버가 응답하지 않습니다.",
    cameraRefused: "카메라를 사용할 수 없습니다.",
  },
};
const KEY = "keras_fcn.language";
let language = stored() ?? (navigator.language.startsWith("ko") ? "ko" : "en");

export function text(key, ...values) {
  const found = TEXTS[language][key];
  return typeof found === "function" ? found(...values) : found;
}

export function errorText(status) {
  return text(`error${status}`) ?? text(status >= 500 ? "error500" : status ? "error400" : "error0");
}

export function percent(fraction, digits = 1) {
  const options = { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, options).format(fraction);
}

export function currentLanguage() {
  return language;
}

export function setLanguage(name) {
  language = name;
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // A browser may forbid to store anything: the choice then lasts as long as the page.
  }
}

export function applyTexts() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", button.dataset.language === language);
  }
}

function stored() {
  try {
    const name = localStorage.getItem(KEY);
    return name in TEXTS ? name : null;
  } catch {
    return null;
  }
}
