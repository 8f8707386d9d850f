// Asks the service whether it is ready, as a consumer would: DNS, TLS, front door, API, function, database.
const synthetics = require("Synthetics");
const https = require("https");

const ask = () =>
  new Promise((resolve, reject) => {
    const request = https.get("${URL}", { timeout: 10000 }, (answer) => {
      answer.resume();
      answer.on("end", () =>
        answer.statusCode === 200 ? resolve() : reject(new Error(`status ${answer.statusCode}`)),
      );
    });
    request.on("timeout", () => request.destroy(new Error("no answer in 10 s")));
    request.on("error", reject);
  });

exports.handler = async () => synthetics.executeStep("ready", ask);
