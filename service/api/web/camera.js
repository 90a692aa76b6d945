// Takes a picture with the camera: in a dialog where the browser lets a page see it, else through the phone's own.

import { byId } from "./dom.js";
import { addPictures } from "./pictures.js";
import { showProblem } from "./problem.js";
import { ServiceError } from "./service.js";

const REASONS = {
  NotAllowedError: "This page may not use the camera. Allow it in the browser's address bar",
  NotFoundError: "There is no camera",
  NotReadableError: "Another program uses the camera",
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
