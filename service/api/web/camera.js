// Takes a picture: in a dialog if the browser allows pages to use the camera, otherwise with the phone's camera app.

import { byId } from "./dom.js";
import { addPictures } from "./pictures.js";
import { showProblem } from "./problem.js";
import { ServiceError } from "./service.js";

const REASONS = {
  NotAllowedError: "The browser doesn't allow this page to use the camera. Allow it in the address bar",
  NotFoundError: "No camera was found",
  NotReadableError: "The camera is used by another program",
};

export function startCamera() {
  const dialog = byId("camera-dialog");
  const video = byId("camera-video");
  const stop = () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  };
  byId("camera").addEventListener("click", async () => {
    if (!navigator.mediaDevices?.getUserMedia) {
      byId("photo").click();
      return;
    }
    showProblem(byId("camera-problem"), null);
    dialog.showModal();
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (!dialog.open) stop();
    } catch (error) {
      const detail = REASONS[error.name] ?? String(error);
      showProblem(byId("camera-problem"), new ServiceError({ title: "No picture from the camera", detail }));
    }
  });
  byId("camera-take").addEventListener("click", async () => {
    if (!video.videoWidth) return;
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const content = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
    addPictures([new File([content], "camera.jpg", { type: content.type })]);
    dialog.close();
  });
  byId("camera-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", stop);
}
