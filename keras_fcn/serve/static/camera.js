/* Takes a photo: with the phone's own camera, or in a dialog where there is none. */

const dialog = document.getElementById("camera");
const video = dialog.querySelector("video");
const isPhone = matchMedia("(pointer: coarse)").matches;

/** Whether this browser, at this address, lets a page use a camera. */
export const hasCamera = isPhone || Boolean(navigator.mediaDevices?.getUserMedia);

/** Opens the camera, or says that the visitor, or the machine, has none to offer. */
export async function openCamera() {
  if (isPhone) {
    document.getElementById("phone-camera").click();
    return;
  }
  dialog.classList.remove("refused");
  dialog.showModal();
  try {
    const wish = { video: { facingMode: "environment" } };
    video.srcObject = await navigator.mediaDevices.getUserMedia(wish);
    await video.play();
  } catch {
    dialog.classList.add("refused");
  }
}

/** Returns what the camera sees, as a file. */
export async function shoot() {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  const type = "image/jpeg";
  const blob = await canvas.convertToBlob({ type, quality: 0.95 });
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  dialog.close();
  return new File([blob], `camera-${time}.jpg`, { type });
}

export function closeCamera() {
  dialog.close();
}

// Escape closes the dialog, too.
dialog.addEventListener("close", () => {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
});
