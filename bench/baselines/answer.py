"""The constant answer of the HTTP baselines, as long as a real answer of the service."""

BODY = (
    b'{"model":"sequential","version":1,"label":"cat","class_id":3,"confidence":0.997104823589325,"top":['
    b'{"label":"cat","class_id":3,"probability":0.997104823589325},'
    b'{"label":"bird","class_id":2,"probability":0.0012169687543064356},'
    b'{"label":"dog","class_id":5,"probability":0.0011092822533100843}]}'
)
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
