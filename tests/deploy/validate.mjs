// Validates custom resources, a JSON list on standard input, with the models that npm has for them. Prints the errors.
const PACKAGES = {
  "monitoring.coreos.com/v1": "prometheus-operator",
  "keda.sh/v1alpha1": "keda",
};
let text = "";
for await (const chunk of process.stdin) text += chunk;
for (const document of JSON.parse(text)) {
  const { apiVersion, kind } = document;
  const folder = `${process.argv[2]}/node_modules/@kubernetes-models/${PACKAGES[apiVersion]}`;
  const module = await import(`${folder}/${apiVersion}/${kind}.js`);
  const Model = module[kind] ?? module.default[kind];
  try {
    new Model(document).validate();
  } catch (error) {
    console.log(`${kind}: ${error.message}`);
  }
}
